"""The rows of recorded sessions, copied into the database."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from actors.audio import level_answer
from actors.science.detection import chunks, classifier
from actors.science.levels.totals import CLASS_DB, FIRST_DB, N_CLASSES, Histogram, Totals
from actors.science.summaries import local_day
from actors.science.types import BACKGROUND, UNCLASSIFIED, Span
from db.blobs.keys import product_key, recording_key
from db.tables.sessions import NORMAL, level_reference
from tests.benchmarks.year_plan import RATE_HZ, Plan, Recording

#: How often LAF is sampled, in seconds.
TICK_S = 0.1
#: Spans of this many days at the beginning have scores of realistic size. 19 kB per minute of audio
#: would be 7 GB for the year, so the other spans have small ones.
SCORED_DAYS = 35
#: Days of requests in the request log, and requests per session.
REQUEST_DAYS, REQUESTS_A_SESSION = 90, 12


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


_SESSION = _columns(
    "id state file_name recording_key size_bytes user_id batch_id priority created_at "
    "started_at calibration_db recorded_at "
    "time_zone user_metadata model_id container codec rate_hz n_channels missing_s "
    "n_samples levels_key spectrogram_key totals spans_total spans_finished summary problem "
    "levels_answer_key quarter_mean_squares"
)
_RESULT = _columns("session_id user_id created_at finished_at duration_s max_confidence outcome")
_SPAN = _columns(
    "session_id span_index start_sample stop_sample state attempt due_at nudged_at last_error "
    "started_at scores"
)
_DETECTION = _columns(
    "session_id event_index user_id heard_at start_s end_s noise_type confidence laeq_db "
    "lafmax_db candidates"
)
_METRIC = _columns("session_id step span_index attempt result duration_s recorded_at")
_REQUEST = _columns(
    "request_id method route status duration_s bytes_in bytes_out user_id key_id session_id "
    "received_at"
)
_ITEM = ("batch_id", "item_index", "file_name", "outcome", "session_id")
COLUMNS = {
    "audio_sessions": _SESSION,
    "session_results": _RESULT,
    "session_spans": _SPAN,
    "processing_metrics": _METRIC,
    "api_requests": _REQUEST,
    "batch_items": _ITEM,
}
_LOST = "CodecError: the audio could not be decoded"
_ASKED = (
    ("GET", "/v1/sessions/{session_id}", 200, 0, 1_400),
    ("GET", "/v1/sessions/{session_id}/detections", 200, 0, 24_000),
    ("GET", "/v1/sessions/{session_id}/levels", 200, 0, 9_000),
    ("GET", "/v1/sessions/{session_id}", 404, 0, 180),
    ("GET", "/v1/sessions/{session_id}", 429, 0, 200),
)


class Times(NamedTuple):
    """The times of a session's stages; None for stages that it did not reach."""

    started_at: datetime | None
    split_at: datetime | None
    heard_at: datetime | None
    finished_at: datetime | None


class Writer:
    """Writes the rows of recordings, page by page."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        plan: Plan,
        rng: np.random.Generator,
        model: classifier.Classifier,
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._rng = rng
        self._model = {"name": model.header["name"], "version": model.header["version"]}
        [(self._model_id,)] = connection.execute("SELECT id FROM noise_models")
        self._n_classes = len(model.classes)
        self._types = [*(name for name in model.classes if name != BACKGROUND), UNCLASSIFIED]
        # A few types cause most of the noise.
        self._type_weights = 1.0 / np.arange(1, len(self._types) + 1)
        self._candidates: dict[tuple[int, int], str] = {}
        steps = np.arange(N_CLASSES) * CLASS_DB + FIRST_DB
        self._classes_db = steps + CLASS_DB / 2

    def write(self, recordings: Sequence[Recording]) -> None:
        """Write all rows of a page of recordings."""
        events = self._events(recordings)
        times = [self._times(recording) for recording in recordings]
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in COLUMNS}
        for index, (recording, when) in enumerate(zip(recordings, times, strict=True)):
            planned = chunks.plan_spans(round(recording.duration_s * chunks.RATE_HZ))
            lost = len(planned) - 1 if recording.state == "partial" else None
            summary = events.summaries[index] if recording.is_heard else None
            session = self._session(recording, when, planned, lost, summary)
            rows["audio_sessions"].append(session)
            rows["session_results"] += _result(recording, when, summary)
            rows["session_spans"] += self._spans(recording, when, planned, lost)
            rows["processing_metrics"] += self._metrics(recording, when, planned, lost)
            rows["api_requests"] += self._requests(recording)
            rows["batch_items"] += _items(recording)
        for table, of_table in rows.items():
            with copying(self._connection, table, COLUMNS[table]) as copy:
                for row in of_table:
                    copy.write_row(row)
        with copying(self._connection, "noise_detections", _DETECTION) as copy:
            copy.write("".join(events.lines))

    def _times(self, recording: Recording) -> Times:
        wait_s, split_s, heard_s, end_s = self._rng.exponential((4.0, 1.0, 3.0, 0.5)).tolist()
        split_s += recording.duration_s / 150
        heard_s += recording.duration_s / 40
        started = recording.created_at + timedelta(seconds=wait_s)
        split = started + timedelta(seconds=split_s)
        heard = split + timedelta(seconds=heard_s)
        if recording.state == "failed":
            return Times(started, None, None, split)
        if recording.state == "cancelled":
            return Times(started, split, None, split + timedelta(seconds=end_s))
        stage = ("queued", "splitting", "detecting", "aggregating")
        reached = stage.index(recording.state) if recording.state in stage else len(stage)
        return Times(
            started if reached > 0 else None,
            split if reached > 1 else None,
            heard if reached > 2 else None,
            heard + timedelta(seconds=end_s) if reached > 3 else None,
        )

    def _session(
        self,
        recording: Recording,
        when: Times,
        planned: Sequence[Span],
        lost: int | None,
        summary: dict[str, Any] | None,
    ) -> tuple[Any, ...]:
        of_audio: dict[str, Any] = {}
        if when.started_at and recording.state not in ("queued", "splitting"):
            of_audio = {"container": "WAV", "codec": "PCM_16", "rate_hz": RATE_HZ, "n_channels": 1}
        if when.split_at:
            totals = self._totals(recording)
            of_audio |= {
                "missing_s": 0.0,
                "n_samples": round(recording.duration_s * chunks.RATE_HZ),
                "levels_key": product_key(recording.id, "levels", attempt=1),
                "spectrogram_key": product_key(recording.id, "spectrogram", attempt=1),
                "totals": json.dumps(totals.to_json()),
                "spans_total": len(planned),
                "spans_finished": len(planned) if when.heard_at else 0,
            }
            if summary is not None:
                calibration_db = recording.calibration_db or 0.0
                summary |= level_answer.of_the_whole(totals, calibration_db)
                summary["level_reference"] = level_reference(recording.calibration_db)
                summary["model"] = self._model
                of_audio["summary"] = json.dumps(summary)
                of_audio["levels_answer_key"] = product_key(
                    recording.id, "levels-answer", attempt=1
                )
        is_dated = _is_dated(recording)
        if is_dated and summary is not None:
            lead_s = local_day.lead_s(recording.recorded_at)
            n_quarters = math.ceil(round((lead_s + recording.duration_s) / local_day.QUARTER_S, 6))
            of_audio["quarter_mean_squares"] = n_quarters * [10 ** (recording.level_db / 10)]
        values = {
            "id": recording.id,
            "state": recording.state,
            "file_name": _file_name(recording),
            "recording_key": recording_key(recording.id),
            "size_bytes": 44 + 2 * round(recording.duration_s * RATE_HZ),
            "user_id": recording.caller.id,
            "batch_id": recording.batch_id,
            "priority": NORMAL + 1 if recording.batch_id else NORMAL,
            "created_at": recording.created_at,
            "started_at": when.started_at,
            "calibration_db": recording.calibration_db,
            "recorded_at": recording.recorded_at if is_dated else None,
            "time_zone": recording.caller.zone if is_dated else None,
            "user_metadata": json.dumps({"site": f"site-{recording.id.int % 40}"}),
            "model_id": self._model_id if of_audio else None,
            "spans_total": 0,
            "spans_finished": 0,
            "problem": _problem(recording, planned, lost),
        } | of_audio
        return tuple(values.get(name) for name in _SESSION)

    def _totals(self, recording: Recording) -> Totals:
        """Return the levels of a recording, spread around its mean level."""
        n_ticks = max(int(recording.duration_s / TICK_S) - 5, 1)
        density = np.exp(-(((self._classes_db - recording.level_db + 3) / 5) ** 2) / 2)
        counts = np.round(density / density.sum() * n_ticks).astype(np.int64)
        counts[int((recording.level_db - FIRST_DB) / CLASS_DB)] += n_ticks - counts.sum()
        counts = np.maximum(counts, 0)
        a = 10 ** (recording.level_db / 10)
        return Totals(
            duration_s=recording.duration_s,
            a_mean_square=a,
            c_mean_square=2 * a,
            z_mean_square=2.5 * a,
            fast_max=min(30 * a, 1.0),
            slow_max=min(12 * a, 1.0),
            fast_min=a / 40,
            c_peak=float(min(np.sqrt(120 * a), 1.0)),
            histogram=Histogram(counts),
            tick_s=TICK_S,
        )

    def _spans(
        self,
        recording: Recording,
        when: Times,
        planned: Sequence[Span],
        lost: int | None,
    ) -> Iterator[tuple[Any, ...]]:
        if when.split_at is None:
            return
        is_scored = recording.created_at < self._plan.begin + timedelta(days=SCORED_DAYS)
        for span in planned:
            state = "failed" if span.index == lost else "done" if when.heard_at else "pending"
            scores = None
            if state == "done":
                n_bytes = 2 * self._n_classes * chunks.count_steps(span.stop - span.start)
                scores = self._rng.bytes(n_bytes if is_scored else 16)
            began = when.split_at if when.heard_at else None
            yield (
                recording.id,
                span.index,
                span.start,
                span.stop,
                state,
                int(began is not None),
                when.split_at,
                when.split_at,
                _LOST if state == "failed" else None,
                began,
                scores,
            )

    def _metrics(
        self,
        recording: Recording,
        when: Times,
        planned: Sequence[Span],
        lost: int | None,
    ) -> Iterator[tuple[Any, ...]]:
        if when.started_at is None:
            return
        session_id = recording.id
        yield session_id, "process", None, 1, "done", 0.02, when.started_at
        if when.split_at is None:
            if when.finished_at is not None:
                yield session_id, "split", None, 1, "failed", 0.4, when.finished_at
            return
        split_s = (when.split_at - when.started_at).total_seconds()
        yield session_id, "split", None, 1, "done", split_s, when.split_at
        if when.heard_at is None:
            return
        each_s = (when.heard_at - when.split_at).total_seconds() / len(planned)
        for span in planned:
            at = when.split_at + timedelta(seconds=each_s * (span.index + 1))
            if self._rng.random() < 0.01:
                yield session_id, "detect", span.index, 1, "retried", each_s, at
            result = "given_up" if span.index == lost else "done"
            yield session_id, "detect", span.index, 1, result, each_s, at
        if when.finished_at is not None:
            aggregate_s = (when.finished_at - when.heard_at).total_seconds()
            yield session_id, "aggregate", None, 1, "done", aggregate_s, when.finished_at

    def _requests(self, recording: Recording) -> Iterator[tuple[Any, ...]]:
        if recording.created_at < self._plan.until - timedelta(days=REQUEST_DAYS):
            return
        caller, at = recording.caller, recording.created_at
        yield (
            self._rng.bytes(8).hex(),
            "POST",
            "/v1/sessions",
            202,
            0.08,
            44 + 2 * round(recording.duration_s * RATE_HZ),
            700,
            caller.id,
            None,
            recording.id,
            at,
        )
        picks = self._rng.choice(
            len(_ASKED), REQUESTS_A_SESSION - 1, p=[0.75, 0.12, 0.08, 0.03, 0.02]
        )
        for index, pick in enumerate(picks, 1):
            method, route, status, n_in, n_out = _ASKED[pick]
            yield (
                self._rng.bytes(8).hex(),
                method,
                route,
                status,
                0.004,
                n_in,
                n_out,
                caller.id,
                None,
                recording.id,
                at + timedelta(seconds=5 * index),
            )

    def _events(self, recordings: Sequence[Recording]) -> Events:
        """Return the events of recordings as lines for ``COPY``, with their summaries."""
        rng, n_types = self._rng, len(self._types)
        counts = np.array([each.n_events for each in recordings])
        of = np.repeat(np.arange(len(recordings)), counts)
        starts, ends = _stretches(recordings, counts, of, rng)
        # Each recording has a different mixture of types.
        weights = self._type_weights * rng.exponential(1.0, (len(recordings), n_types)) ** 2
        bounds = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
        types = (rng.random(len(of))[:, None] > bounds[of]).sum(axis=1).clip(0, n_types - 1)
        permille = np.round(500 + 499 * rng.beta(2.5, 1.5, len(of))).astype(np.int64)
        levels = np.array([each.level_db + (each.calibration_db or 0.0) for each in recordings])
        laeq = np.round(levels[of] + rng.normal(1.0, 2.5, len(of)), 2)
        lafmax = np.round(laeq + rng.gamma(4.0, 1.2, len(of)), 2)
        first = np.cumsum(counts) - counts
        columns = (of, np.arange(len(of)) - first[of], starts, ends, types, permille, laeq, lafmax)
        ids, names = [str(each.id) for each in recordings], self._types
        callers = [str(each.caller.id) for each in recordings]
        begins = [each.recorded_at if _is_dated(each) else None for each in recordings]
        lines = [
            f"{ids[i]}\t{event}\t{callers[i]}\t{_heard_at(begins[i], start)}\t{start}\t{end}"
            f"\t{names[kind]}\t{sure / 1000}\t{level}\t{loudest}"
            f"\t{self._candidates.get((kind, sure)) or self._candidate(kind, sure)}\n"
            for i, event, start, end, kind, sure, level, loudest in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ]
        return Events(lines, _summaries(len(recordings), names, of, types, ends - starts, permille))

    def _candidate(self, kind: int, permille: int) -> str:
        """Return the candidates of an event: its type, and two less likely ones."""
        scores = (permille / 1000, (1000 - permille) * 0.6 / 1000, (1000 - permille) * 0.3 / 1000)
        made = json.dumps(
            [
                {
                    "noise_type": self._types[(kind + index) % len(self._types)],
                    "score": round(score, 4),
                }
                for index, score in enumerate(scores)
            ]
        )
        self._candidates[kind, permille] = made
        return made


class Events(NamedTuple):
    """The events of a page of recordings."""

    lines: list[str]
    #: The event fields of each recording's summary.
    summaries: list[dict[str, Any]]


def _stretches(
    recordings: Sequence[Recording],
    counts: NDArray[np.int64],
    of: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the start and end of each event: in sequence, with a pause before each."""
    lengths = rng.exponential((1.0, 0.5), (len(of), 2)) + 0.05
    run = np.cumsum(lengths.ravel()).reshape(-1, 2)
    first = np.cumsum(counts) - counts
    has_some = counts > 0
    offsets, totals = np.zeros(len(counts)), np.ones(len(counts))
    offsets[has_some] = run[first[has_some], 0] - lengths[first[has_some], 0]
    # Also add a pause after the last event.
    totals[has_some] = run[(first + counts - 1)[has_some], 1] - offsets[has_some] + 1.0
    durations_s = np.array([each.duration_s for each in recordings])
    scaled = (run - offsets[of, None]) * (durations_s / totals)[of, None]
    starts, ends = np.round(scaled, 4).T
    return starts, np.maximum(ends, np.round(starts + 1e-4, 4))


def _summaries(
    n: int,
    names: Sequence[str],
    of: NDArray[np.int64],
    types: NDArray[np.int64],
    lengths_s: NDArray[np.float64],
    permille: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Return the events of each recording by type, as ``aggregate`` counts them."""
    shape = (n, len(names))
    place = of * len(names) + types
    events = np.bincount(place, minlength=n * len(names)).reshape(shape)
    total_s = np.bincount(place, lengths_s, minlength=n * len(names)).reshape(shape)
    surest = np.zeros(n * len(names), dtype=np.int64)
    np.maximum.at(surest, place, permille)
    surest = surest.reshape(shape)
    return [
        {
            "events": int(events[i].sum()),
            "noise_types": {
                names[kind]: {
                    "events": int(events[i, kind]),
                    "total_s": round(float(total_s[i, kind]), 3),
                    "max_confidence": int(surest[i, kind]) / 1000,
                }
                for kind in np.flatnonzero(events[i]).tolist()
            },
        }
        for i in range(n)
    ]


def _is_dated(recording: Recording) -> bool:
    """Return whether a recording has a recording time; one in five has none."""
    return recording.id.int % 5 > 0


def _heard_at(begin: datetime | None, start_s: float) -> str:
    """Return when an event begins, for ``COPY``."""
    return "\\N" if begin is None else f"{begin + timedelta(seconds=start_s)}"


def _file_name(recording: Recording) -> str:
    return f"{recording.recorded_at:%Y%m%d_%H%M%S}.wav"


def _result(
    recording: Recording, when: Times, summary: dict[str, Any] | None
) -> list[tuple[Any, ...]]:
    """Return the row of the result of a session; none before it is decoded or ends."""
    if when.split_at is None and when.finished_at is None:
        return []
    by_type = {} if summary is None else summary["noise_types"]
    confidences = (each["max_confidence"] for each in by_type.values())
    return [
        (
            recording.id,
            recording.caller.id,
            recording.created_at,
            when.finished_at,
            recording.duration_s if when.split_at else None,
            max(confidences, default=None),
            recording.state if when.finished_at else None,
        )
    ]


def _items(recording: Recording) -> Iterator[tuple[Any, ...]]:
    """Yield the batch item of a recording that belongs to a batch."""
    if recording.batch_id:
        name = _file_name(recording)
        yield recording.batch_id, recording.item_index, name, "taken", recording.id


def _problem(recording: Recording, planned: Sequence[Span], lost: int | None) -> str | None:
    if recording.state == "failed":
        return json.dumps(
            {"code": "undecodable", "detail": "the recording cannot be decoded as audio"}
        )
    if lost is None:
        return None
    start_s, end_s = planned[lost].start / chunks.RATE_HZ, recording.duration_s
    return json.dumps(
        {
            "code": "seconds-missing",
            "detail": f"{end_s - start_s:.2f} s of the recording are missing from the answer",
            "missing": [{"start_s": round(start_s, 3), "end_s": end_s, "reason": _LOST}],
        }
    )


@contextmanager
def copying(
    connection: psycopg.Connection[Any], table: str, names: Sequence[str]
) -> Iterator[psycopg.Copy]:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        yield copy
