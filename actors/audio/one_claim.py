"""Process a short recording under the claim of ``process``, and store it in one transaction.

The steps are those of the pipeline, one after the other in one worker. Only their commits differ:
there is one at the end, with all rows. If a step fails, nothing is stored of it, and the session
goes through the pipeline, in which each step has its own attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeAlias

import structlog
from sqlalchemy.orm import Session

from actors.audio import aggregate, detect, products, progress, split
from actors.audio.aggregate import SessionAnswer
from actors.audio.split import Splitting
from actors.execution import failures, runner
from actors.execution.failures import ClaimLost
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.execution.steps import Steps
from actors.facts import audio_cost
from actors.messaging.messages import (
    AggregateSession,
    AnalyzeSession,
    DetectSpan,
    Nudge,
    SplitRecording,
)
from actors.science.types import AudioFormat
from db.queries import analysis_queries
from db.queries.analysis_queries import AnalysisDone, StepRuns
from db.queries.session_queries import NewDetectionRow, StepRun
from db.queries.stage_results import ProcessDone
from db.queue.claims import SessionWork
from db.settings import Settings
from db.tables.sessions import STAGE_BOUNDS, AudioSession

log = structlog.get_logger(__name__)

#: How many times the bound a recording may last that promised less.
MOST_PROMISED = 2.0

#: Computes the analysis of a session that is about to end, from its detections and the runs of its
#: steps. Another domain has it.
Analyze: TypeAlias = Callable[
    [Runtime, AudioSession, Sequence[NewDetectionRow], Sequence[StepRuns]], AnalysisDone
]


def fits(session: AudioSession, audio: AudioFormat, lease: Lease, settings: Settings) -> bool:
    """Whether a recording is short enough, and this is its first attempt.

    A recording that has killed its worker goes through the pipeline, in which a part that does so
    costs that part alone.
    """
    if audio.n_frames is None:
        assert session.size_bytes is not None
        lasts_s = session.size_bytes / audio_cost.ASSUMED_BYTES_S
    else:
        lasts_s = audio.n_frames / audio.rate_hz
    counted_s = audio_cost.cost_s(lasts_s, rate_hz=audio.rate_hz, n_channels=audio.n_channels)
    return 0 < counted_s <= settings.one_claim_s and lease.counted == 1 < settings.max_attempts


def result(
    runtime: Runtime,
    work: SessionWork,
    session: AudioSession,
    lease: Lease,
    *,
    checked: ProcessDone,
    analyze: Analyze,
) -> runner.Result | None:
    """Do the steps that follow ``process``; return the result of all, or None if one fails.

    Raises
    ------
    ClaimLost
        If the session has ended, or another worker has claimed it.
    """
    steps = Steps(lease, session.id, traceparent=session.traceparent)
    _set(session, checked)
    temporary, lasting = (
        [products.key_of(work, lease, name) for name in names]
        for names in (products.TEMPORARY, products.LASTING)
    )
    try:
        with runtime.blobs.behind(*lasting):
            with runtime.blobs.in_memory(*temporary):
                splitting, answer = _answer(runtime, work, session, lease, steps)
            analysis = _analysis(runtime, session, answer, lease, steps, analyze=analyze)
    except ClaimLost:
        raise
    except Exception as error:
        reason = failures.judge(error).logged
        log.warning("one_claim_failed", session_id=str(session.id), error=reason)
        runner.discard(runtime, lease)
        return None
    ended = {
        "spans_finished": len(splitting.spans),
        "finished_at": session.finished_at,
        **dict.fromkeys(("pcm_key", "wide_pcm_key", "bands_key")),
    }
    move_on = runner.move_on(
        work,
        to=answer.state,
        values={**checked, **splitting.values, **answer.values, **ended},
        then=[] if analysis else [AnalyzeSession(session_id=session.id)],
    )

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        nudges = move_on(tx, attempt)
        if nudges is not None:
            splitting.add_rows(tx)
            answer.add_rows(tx, session, analysis=analysis)
        return nudges

    committed = partial(answer.count, session)
    return runner.Result(write, steps=steps.done, committed=committed, together=True)


def _answer(
    runtime: Runtime, work: SessionWork, session: AudioSession, lease: Lease, steps: Steps
) -> tuple[Splitting, SessionAnswer]:
    """Do the steps up to the answer. ``session`` gets the values of each."""
    tell = progress.of_stage(runtime, work, lease)
    with steps.step("split", SplitRecording):
        # The header may promise too little, and decoded audio is held in memory.
        most_s = min(runtime.settings.max_duration_s, MOST_PROMISED * runtime.settings.one_claim_s)
        splitting = split.split(
            runtime, work, session, lease, most_s=most_s, tell=_part(tell, "splitting")
        )
    _set(session, splitting.values)
    tell_detected = _part(tell, "detecting")
    for n_before, span in enumerate(splitting.spans):
        tell_detected(n_before / len(splitting.spans))
        with steps.step("detect", DetectSpan, span_index=span.span_index):
            span.scores = detect.score(runtime, session, span, lease)
            span.state = "done"
    with steps.step("aggregate", AggregateSession):
        answer = aggregate.aggregate(
            runtime, work, session, splitting.spans, lease, tell=_part(tell, "aggregating")
        )
    _set(session, answer.values)
    return splitting, answer


def _analysis(
    runtime: Runtime,
    session: AudioSession,
    answer: SessionAnswer,
    lease: Lease,
    steps: Steps,
    *,
    analyze: Analyze,
) -> AnalysisDone | None:
    """End the session, but for its row, and compute its analysis; None if that fails."""
    runs: list[StepRuns] = []
    if lease.attempt > 1:
        with runtime.store.reading() as tx:
            runs = analysis_queries.runs_of(tx, session.id)
    lease.check()
    assert lease.times is not None
    # By the database's clock, as other times are.
    ended_at = lease.times.at + timedelta(seconds=lease.held_s)
    ended = {"started_at": lease.times.first_at, "finished_at": ended_at}
    _set(session, {"state": answer.state, **ended})
    own_s = lease.held_s - sum(each.duration_s for each in steps.done)
    runs += [
        StepRuns(each.step, each.result, runs=1, total_s=each.duration_s, longest_s=each.duration_s)
        for each in [StepRun("process", "done", own_s), *steps.done]
    ]
    try:
        with steps.step(analysis_queries.STEP, AnalyzeSession):
            return analyze(runtime, session, answer.detections, runs)
    except ClaimLost:
        raise
    except Exception as error:
        # Not the session's failure: it is requested, as in the pipeline.
        reason = failures.judge(error).logged
        log.warning("analysis_failed", session_id=str(session.id), error=reason)
        return None


def _set(session: AudioSession, values: Mapping[str, object]) -> None:
    """Set columns of a session in memory, as its row will have them."""
    for name, value in values.items():
        setattr(session, name, value)


def _part(tell: Callable[[float], None], stage: str) -> Callable[[float], None]:
    """Return a function that reports the share of a stage as its part of the whole."""
    begin, end = (percent / 100 for percent in STAGE_BOUNDS[stage])
    return lambda share: tell(begin + min(share, 1.0) * (end - begin))
