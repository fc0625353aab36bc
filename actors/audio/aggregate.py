"""``aggregate_session``: merge the chunks of all spans into detections, and end the session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from actors.audio import (
    base_types,
    detection_rows,
    level_answer,
    missing,
    pcm,
    privacy,
    products,
    progress,
    resplit,
)
from actors.audio.detect import SCORES
from actors.execution import runner
from actors.execution.failures import Permanent, still_there
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.facts import noise_types, rounding
from actors.messaging.messages import AggregateSession, AnalyzeSession, Nudge
from actors.observability import metrics
from actors.science.detection import inference, silence
from actors.science.detection.chunks import RATE_HZ, Grid, count_steps
from actors.science.detection.classifier import Classifier
from actors.science.detection.second_opinion import SecondOpinion
from actors.science.levels import event_levels
from actors.science.levels.band_history import BandHistory
from actors.science.levels.levels import LevelHistory
from actors.science.levels.totals import Totals
from actors.science.types import BACKGROUND, UNCLASSIFIED, Event
from db.blobs.errors import BlobMissing
from db.ids import new_id
from db.queries import analysis_queries, session_queries, span_queries
from db.queries.analysis_queries import AnalysisDone
from db.queries.session_queries import NewDetectionRow
from db.queries.stage_results import AggregateDone, MutedAudio
from db.queue import fair_order
from db.queue.claims import SessionWork
from db.tables.documents.sessions import ChannelSummary, Levels, NoiseTypeSummary, Summary
from db.tables.sessions import MUTE, AudioSession
from db.tables.spans import SessionSpan

#: The share of the stage that naming takes if speech is muted afterwards.
NAMED_SHARE = 0.3


def aggregate_session(runtime: Runtime, nudge: AggregateSession) -> None:
    """Write a session's detections, its summary, and what is missing from its answer."""
    take = partial(fair_order.next_session, state="aggregating")
    runner.run(runtime, nudge, take, partial(_aggregate, runtime), in_one_statement=True)


def _aggregate(runtime: Runtime, work: SessionWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            session = still_there(session_queries.get_session(tx, work.session_id))
            spans = span_queries.spans_of(tx, work.session_id)
        if not any(span.state == "done" for span in spans):
            raise Permanent(
                "nothing-heard",
                f"no part of the recording could be analysed: {spans[0].last_error}",
            )
        tell = progress.of_stage(runtime, work, lease)
        try:
            answer = aggregate(runtime, work, session, spans, lease, tell=tell)
        except BlobMissing as missing:
            return resplit.instead(runtime, session, work, missing)
        move_on = runner.move_on(
            work,
            to=answer.state,
            values=answer.values,
            then=[AnalyzeSession(session_id=session.id)],
        )

        def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
            nudges = move_on(tx, attempt)
            if nudges is not None:
                answer.add_rows(tx, session)
                # Of the database's clock, as the time of creation is.
                session.finished_at = session_queries.clock(tx)
            return nudges

        return runner.Result(write, committed=partial(answer.count, session))

    return runner.Task(name="aggregate", work=work, perform=perform, give_up=runner.fail(work))


@dataclass(frozen=True, kw_only=True)
class SessionAnswer:
    """The answer of a session: its final state, its columns, and its detections."""

    state: str
    values: AggregateDone
    detections: Sequence[NewDetectionRow]

    def count(self, session: AudioSession) -> None:
        """Count the recording in the metrics, after the commit that ends its session."""
        assert session.finished_at is not None
        metrics.recording_ended(
            self.state,
            audio_s=session.duration_s or 0.0,
            turnaround_s=(session.finished_at - session.created_at).total_seconds(),
        )

    def add_rows(
        self, tx: Session, session: AudioSession, *, analysis: AnalysisDone | None = None
    ) -> None:
        """Add the detections, and the analysis: as given, or to be made."""
        session_queries.add_detections(tx, session.id, self.detections)
        analysis_queries.ask_analysis(
            tx, session.id, asking_id=new_id(), traceparent=session.traceparent, done=analysis
        )


def aggregate(
    runtime: Runtime,
    work: SessionWork,
    session: AudioSession,
    spans: Sequence[SessionSpan],
    lease: Lease,
    *,
    tell: Callable[[float], None],
) -> SessionAnswer:
    """Compute the answer of a session; raise :class:`BlobMissing` if a product is missing.

    ``tell`` is called with the share that is done.
    """
    assert session.model_id
    assert session.levels_key
    assert session.totals
    model = runtime.model(session.model_id)
    levels = LevelHistory.from_bytes(runtime.blobs.get(session.levels_key))
    totals = Totals.from_json(dict(session.totals))
    is_muted = session.privacy == MUTE
    named_share = NAMED_SHARE if is_muted else 1.0
    opinion = base_types.opinion_of(runtime, session, model, lease)
    found = _merge(
        runtime,
        session,
        spans,
        levels,
        totals,
        lease,
        opinion=opinion,
        tell=lambda share: tell(share * named_share),
    )
    muted: MutedAudio | None = None
    if is_muted:
        muted = privacy.mute(
            runtime,
            session,
            work,
            lease,
            found,
            tell=lambda share: tell(named_share + share * (1.0 - named_share)),
        )
    heard = _with_bands(runtime, session, _of_interest(found, session.types))
    heard = detection_rows.as_shown(heard, session.calibration_db)
    answer_key = products.new_key(work, lease, "levels-answer")
    answer = level_answer.document(session, levels, totals)
    runtime.blobs.put(answer_key, msgspec.json.encode(answer))
    backbone = None if opinion is None else opinion.tagger.name
    lost = missing.parts(session, _failed(session, spans))
    summary = _summary(
        session,
        heard,
        answer,
        model,
        channels=level_answer.channel_summary(totals),
        backbone=backbone,
        unused_types=_unused(model, opinion),
    )
    quarters = level_answer.by_quarters(session, levels)
    values = AggregateDone(
        summary=msgspec.to_builtins(summary),
        max_confidence=max((event.confidence for event in heard), default=None),
        backbone=backbone,
        levels_answer_key=answer_key,
        quarter_mean_squares=quarters["quarter_mean_squares"],
        quarter_overloads=quarters["quarter_overloads"],
        quarter_overload_energies=quarters["quarter_overload_energies"],
        problem=missing.problem(lost, base_types.note_of(runtime, session, opinion)),
    )
    if muted is not None:
        values["muted_key"] = muted["muted_key"]
        values["spectrogram_key"] = muted["spectrogram_key"]
    return SessionAnswer(
        state="partial" if lost else "completed",
        values=values,
        detections=[detection_rows.columns(event) for event in heard],
    )


def _merge(
    runtime: Runtime,
    session: AudioSession,
    spans: Sequence[SessionSpan],
    levels: LevelHistory,
    totals: Totals,
    lease: Lease,
    *,
    opinion: SecondOpinion | None,
    tell: Callable[[float], None],
) -> list[Event]:
    """Return the detections of a session: segments from the framewise scores, each classified.

    ``tell`` is called with the share of the recording whose segments are classified.
    """
    assert session.model_id
    model = runtime.model(session.model_id)
    scores = np.concatenate([_scores(span, model.classes) for span in spans])
    grid, read_samples = pcm.grid_of(session), pcm.reader(runtime.blobs, session, lease)

    def read(start: int, stop: int) -> NDArray[np.float32]:
        # Segments are classified in chronological order.
        tell(start / grid.length)
        return read_samples(start, stop)

    found = inference.find_events(
        model,
        scores,
        read=read,
        grid=grid,
        levels=levels,
        thresholds=session.thresholds,
        opinion=opinion,
        holes=pcm.holes_of(session),
        quiet_db=silence.quiet_db(session.codec),
    )
    # Lost spans are missing from the answer, not unclassified.
    lost = [_times(span, grid) for span in spans if span.scores is None]
    kept = [
        event
        for event in found
        if event.noise_type != UNCLASSIFIED
        or not any(event.start_s < end_s and start_s < event.end_s for start_s, end_s in lost)
    ]
    return event_levels.measured(kept, levels, totals, unheard=lost)


def _of_interest(found: Sequence[Event], types: Sequence[str]) -> list[Event]:
    """Return the detections of some types and groups and all types below them; all if none given.

    Applied last, so that types outside the selection still influence the others.
    """
    wanted = noise_types.with_below(types)
    return [event for event in found if not wanted or event.noise_type in wanted]


def _with_bands(runtime: Runtime, session: AudioSession, found: Sequence[Event]) -> Sequence[Event]:
    """Add the third octaves of detections, if they were measured."""
    if session.bands_key is None:
        return found
    bands = BandHistory.from_bytes(runtime.blobs.get(session.bands_key))
    holes_s = [(hole["start_s"], hole["end_s"]) for hole in session.holes or ()]
    holes = np.rint(np.reshape(holes_s, (-1, 2)) * bands.rate_hz).astype(np.int64)
    return [
        dataclasses.replace(
            event, third_octaves_db=tuple(bands.leq_db(event.start_s, event.end_s, holes=holes))
        )
        for event in found
    ]


def _unused(model: Classifier, opinion: SecondOpinion | None) -> list[str]:
    """Return the trained types of a model that were not detected for want of its backbone."""
    is_used = opinion is not None and opinion.tagger.head is model.head
    return [] if is_used else list(model.trained_types)


def _times(span: SessionSpan, grid: Grid) -> tuple[float, float]:
    """Return start and end of a span, in seconds of the recording."""
    start_s, end_s = span.start_sample / RATE_HZ, span.stop_sample / RATE_HZ
    return max(0.0, start_s - grid.lead_s), end_s - grid.lead_s


def _failed(
    session: AudioSession, spans: Sequence[SessionSpan]
) -> list[tuple[float, float, str | None]]:
    """Return start, end and reason of each span that was given up."""
    grid = pcm.grid_of(session)
    return [(*_times(span, grid), span.last_error) for span in spans if span.state == "failed"]


def _scores(span: SessionSpan, classes: Sequence[str]) -> NDArray[np.float32]:
    """Return the scores of a span [shape=(n_steps, n_classes)]; background only if it was lost."""
    n_steps = count_steps(span.stop_sample - span.start_sample)
    if span.scores is not None:
        stored = np.frombuffer(span.scores, dtype=SCORES)
        return stored.reshape(n_steps, len(classes)).astype(np.float32)
    lost = np.zeros((n_steps, len(classes)), dtype=np.float32)
    lost[:, classes.index(BACKGROUND)] = 1.0
    return lost


def _summary(
    session: AudioSession,
    heard: Sequence[Event],
    answer: Levels,
    model: Classifier,
    *,
    channels: ChannelSummary | None,
    backbone: str | None,
    unused_types: list[str],
) -> Summary:
    by_type: dict[str, NoiseTypeSummary] = {}
    for event in heard:
        entry = by_type.setdefault(
            event.noise_type, NoiseTypeSummary(events=0, total_s=0.0, max_confidence=0.0)
        )
        entry.events += 1
        entry.total_s = rounding.seconds(entry.total_s + event.end_s - event.start_s)
        entry.max_confidence = max(entry.max_confidence, event.confidence)
    return Summary(
        events=len(heard),
        noise_types=by_type,
        level_reference=session.level_reference,
        channels=channels,
        model={
            "name": model.header["name"],
            "version": model.header["version"],
            "backbone": backbone,
        },
        unused_types=unused_types,
        audio_begins_s=missing.audio_begins_s(session),
        **answer.overall,
        overload=answer.overload,
        under_range=answer.under_range,
    )
