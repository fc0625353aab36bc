"""A year of sessions, as Clamor would have written them, for benchmarks and inspection.

Several users in several time zones record more by day than by night. Their recordings vary in
length, have or lack a calibration, and some were sent days late. Levels, summaries and spans come
from the code that computes them for real recordings. Rows are written with ``COPY``; foreign keys
and secondary indexes are re-created at the end, which also validates every row. The same plan gives
the same rows.

Blobs are written only for sessions that need them: see :func:`write_blobs`.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from actors.audio import level_answer
from actors.science.detection import chunks, classifier
from actors.science.levels.levels import STEPS_PER_S, LevelSeries
from actors.science.levels.totals import CLASS_DB, FIRST_DB, N_CLASSES, Histogram, Totals
from actors.science.summaries import local_day
from actors.science.types import BACKGROUND, UNCLASSIFIED, Span
from db.blobs import Blobs, product_key, recording_key
from db.queries import model_queries
from db.store import Store
from db.tables.sessions import NORMAL, UNFINISHED_STATES, level_reference
from tests.support import accounts


class Caller(NamedTuple):
    """A sender of recordings: time zone, share of all recordings, and calibration."""

    id: uuid.UUID
    zone: str
    share: float
    calibration_db: float | None


CALLERS = (
    Caller(accounts.TEAM, "Europe/Berlin", 0.36, 112.4),
    *(
        Caller(uuid.uuid5(accounts.TEAM, zone), zone, share, calibration_db)
        for zone, share, calibration_db in (
            ("America/New_York", 0.22, 118.0),
            ("Asia/Kolkata", 0.16, None),
            ("Europe/London", 0.14, 96.5),
            ("Australia/Lord_Howe", 0.08, None),
            ("America/Sao_Paulo", 0.04, 109.9),
        )
    ),
)
#: Relative number of recordings that begin in each hour: most in the rush hours, few at night.
BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 8, 9, 7, 6, 6, 6, 6, 6, 7, 9, 9, 7, 5, 4, 3, 2, 1)
#: Final states of sessions, with their shares.
ENDS = {"completed": 0.93, "partial": 0.03, "failed": 0.025, "cancelled": 0.015}
#: One in this many sessions is unfinished.
ONE_UNFINISHED = 1_000
#: Share of sessions that belong to a batch, and number of sessions per batch.
BATCH_SHARE, BATCH_SESSIONS = 0.2, 50
#: Number of sessions whose rows are generated at once.
PAGE_SESSIONS = 500
#: Mean level of recordings by day and by night in dB re full scale, and its standard deviation.
DAY_DB, NIGHT_DB, SPREAD_DB = -42.0, -56.0, 6.0
RATE_HZ = 44_100
#: How often LAF is sampled, in seconds.
TICK_S = 0.1
#: Spans of this many days at the beginning have scores of realistic size. 19 kB per minute of audio
#: would be 7 GB for the year, so the other spans have small ones.
SCORED_DAYS = 35
#: Days of requests in the request log, and requests per session.
REQUEST_DAYS, REQUESTS_A_SESSION = 90, 12

Tell = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amount of data to generate, up to the time ``until``."""

    until: datetime
    n_sessions: int = 50_000
    n_detections: int = 5_000_000
    days: int = 365
    seed: int = 1

    @property
    def begin(self) -> datetime:
        """The time of the first recording, or a little later."""
        return self.until - timedelta(days=self.days)


class Recording(NamedTuple):
    """A recording and the results of its session."""

    id: uuid.UUID
    caller: Caller
    recorded_at: datetime
    created_at: datetime
    duration_s: float
    level_db: float
    state: str
    n_events: int
    batch_id: uuid.UUID | None
    item_index: int

    @property
    def is_heard(self) -> bool:
        """Whether the session has a result."""
        return self.state in ("completed", "partial")

    @property
    def calibration_db(self) -> float | None:
        """The caller's calibration; one recording in eight has none."""
        return None if self.id.int % 8 == 0 else self.caller.calibration_db


def fill(url: str, plan: Plan, *, tell: Tell = lambda _share, _what: None) -> None:
    """Fill a migrated database that has the tests' users (``accounts.add_first``).

    ``tell`` is called with the share that is done and the current stage.
    """
    rng = generator(plan)
    model = classifier.shipped()
    _add_callers_and_model(url, model)
    recordings = plan_recordings(plan, rng)
    with (
        psycopg.connect(url, autocommit=True) as connection,
        _indexes_at_the_end(connection, tell=tell),
    ):
        _copy_batches(connection, recordings)
        writer = Writer(connection, plan, rng, model)
        for first in range(0, len(recordings), PAGE_SESSIONS):
            tell(0.6 * first / len(recordings), "sessions and detections")
            writer.write(recordings[first : first + PAGE_SESSIONS])
        connection.execute(_USAGE)
    with psycopg.connect(url, autocommit=True) as connection:
        tell(0.95, "vacuum")
        connection.execute("VACUUM (ANALYZE)")
    tell(1.0, "done")


def generator(plan: Plan) -> np.random.Generator:
    """Return the random generator of a plan."""
    return np.random.default_rng(plan.seed)


def _add_callers_and_model(url: str, model: classifier.Model) -> None:
    store = Store(url, pool_size=1)
    with store.transaction() as db:
        for caller in CALLERS[1:]:
            accounts.add_user(db, caller.id, f"{caller.zone.lower().replace('/', '.')}@example.org")
        model_queries.register_shipped(
            db,
            blob_key=f"models/{model.sha256}",
            name=str(model.header["name"]),
            version=str(model.header["version"]),
            sha256=model.sha256,
            header=dict(model.header),
        )
    store.close()


# --- what was recorded -------------------------------------------------------------------------


def plan_recordings(plan: Plan, rng: np.random.Generator) -> list[Recording]:
    """Return every recording of the year, in the order of sending."""
    n = plan.n_sessions
    callers = rng.choice(len(CALLERS), n, p=[caller.share for caller in CALLERS])
    days = rng.integers(0, plan.days, n)
    hours = rng.choice(24, n, p=np.array(BY_HOUR) / sum(BY_HOUR))
    seconds = rng.integers(0, 3_600, n)
    # The median is three minutes; some last an hour or more.
    durations_s: NDArray[np.float64] = np.clip(rng.lognormal(np.log(180.0), 1.1, n), 1.0, 7_200.0)
    durations_s = durations_s.round(3)
    delays_s = rng.exponential(120.0, n) + (rng.random(n) < 0.03) * rng.uniform(0, 3 * 86_400, n)
    found = []
    for index in range(n):
        caller = CALLERS[callers[index]]
        # A nonexistent local time in spring becomes the time one hour later.
        local = datetime.combine(
            (plan.begin + timedelta(days=int(days[index]))).date(), datetime.min.time()
        ) + timedelta(hours=int(hours[index]), seconds=int(seconds[index]))
        recorded_at = local.replace(tzinfo=ZoneInfo(caller.zone)).astimezone(UTC)
        sent_s = float(durations_s[index] + delays_s[index])
        recorded_at = min(recorded_at, plan.until - timedelta(seconds=sent_s + 600))
        created_at = recorded_at + timedelta(seconds=sent_s)
        found.append((created_at, recorded_at, index))
    found.sort()
    by_day = [7 <= hours[index] < 22 for _, _, index in found]
    levels_db = np.where(by_day, DAY_DB, NIGHT_DB) + rng.normal(0, SPREAD_DB, n)
    states = _states(plan, rng)
    n_events = _events(plan, states, durations_s[[index for _, _, index in found]], rng)
    batches = _batches(found, callers, rng)
    ids = [uuid.UUID(bytes=rng.bytes(16), version=4) for _ in range(n)]
    return [
        Recording(
            ids[at],
            CALLERS[callers[index]],
            recorded_at,
            created_at,
            float(durations_s[index]),
            float(levels_db[at]),
            states[at],
            int(n_events[at]),
            *batches[at],
        )
        for at, (created_at, recorded_at, index) in enumerate(found)
    ]


def _states(plan: Plan, rng: np.random.Generator) -> list[str]:
    """Return the state of each session; the last ones are unfinished."""
    states: list[str] = rng.choice(list(ENDS), plan.n_sessions, p=list(ENDS.values())).tolist()
    n_unfinished = max(plan.n_sessions // ONE_UNFINISHED, len(UNFINISHED_STATES))
    for index in range(n_unfinished):
        states[-1 - index] = UNFINISHED_STATES[index % len(UNFINISHED_STATES)]
    return states


def _events(
    plan: Plan, states: Sequence[str], durations_s: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the number of events of each session: more for longer ones, as planned in total."""
    is_heard = np.isin(states, ["completed", "partial"])
    weights = is_heard * durations_s**0.7 * rng.lognormal(0, 0.8, len(states))
    bounds = np.round(np.cumsum(weights) / weights.sum() * plan.n_detections).astype(np.int64)
    found: NDArray[np.int64] = np.diff(bounds, prepend=0)
    return found


def _batches(
    found: Sequence[tuple[datetime, datetime, int]],
    callers: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[tuple[uuid.UUID | None, int]]:
    """Return each recording's batch and index in it: consecutive recordings of one caller."""
    chosen: list[tuple[uuid.UUID | None, int]] = [(None, 0)] * len(found)
    of_caller: dict[int, list[int]] = {}
    for at, (_, _, index) in enumerate(found):
        of_caller.setdefault(int(callers[index]), []).append(at)
    for places in of_caller.values():
        for first in range(0, len(places) - BATCH_SESSIONS + 1, BATCH_SESSIONS):
            if rng.random() >= BATCH_SHARE:
                continue
            batch_id = uuid.UUID(bytes=rng.bytes(16), version=4)
            for item, at in enumerate(places[first : first + BATCH_SESSIONS]):
                chosen[at] = (batch_id, item)
    return chosen


# --- rows --------------------------------------------------------------------------------------

_SESSION = (
    "id",
    "state",
    "file_name",
    "recording_key",
    "size_bytes",
    "user_id",
    "lane",
    "batch_id",
    "priority",
    "created_at",
    "started_at",
    "finished_at",
    "tidied_at",
    "due_at",
    "nudged_at",
    "attempt",
    "calibration_db",
    "recorded_at",
    "time_zone",
    "user_metadata",
    "model_id",
    "container",
    "codec",
    "rate_hz",
    "n_channels",
    "duration_s",
    "missing_s",
    "n_samples",
    "levels_key",
    "spectrogram_key",
    "totals",
    "spans_total",
    "spans_finished",
    "summary",
    "problem",
    "levels_answer_key",
    "quarter_mean_squares",
)
_SPAN = (
    "session_id",
    "span_index",
    "start_sample",
    "stop_sample",
    "state",
    "attempt",
    "due_at",
    "nudged_at",
    "last_error",
    "started_at",
    "scores",
)
_DETECTION = (
    "session_id",
    "event_index",
    "start_s",
    "end_s",
    "noise_type",
    "confidence",
    "laeq_db",
    "lafmax_db",
    "candidates",
)
_METRIC = (
    "session_id",
    "step",
    "span_index",
    "attempt",
    "result",
    "duration_s",
    "recorded_at",
)
_REQUEST = (
    "request_id",
    "method",
    "route",
    "status",
    "duration_s",
    "bytes_in",
    "bytes_out",
    "user_id",
    "key_id",
    "session_id",
    "received_at",
)
_ITEM = ("batch_id", "item_index", "file_name", "outcome", "session_id")
_COLUMNS = {
    "audio_sessions": _SESSION,
    "session_spans": _SPAN,
    "processing_metrics": _METRIC,
    "api_requests": _REQUEST,
    "batch_items": _ITEM,
}
#: Time after which leftover blobs of a finished session are removed for good.
_TIDIED_AFTER = timedelta(hours=2)
_LOST = "CodecError: the audio could not be decoded"
_ASKED = (
    ("GET", "/v1/sessions/{session_id}", 200, 0, 1_400),
    ("GET", "/v1/sessions/{session_id}/detections", 200, 0, 24_000),
    ("GET", "/v1/sessions/{session_id}/levels", 200, 0, 9_000),
    ("GET", "/v1/sessions/{session_id}", 404, 0, 180),
    ("GET", "/v1/sessions/{session_id}", 429, 0, 200),
)
#: The monthly usage that ``split`` counts per user.
_USAGE = """
    INSERT INTO usage_months (user_id, month, audio_s, sessions)
    SELECT user_id, date_trunc('month', created_at AT TIME ZONE 'UTC'), sum(duration_s), count(*)
    FROM audio_sessions WHERE duration_s IS NOT NULL GROUP BY 1, 2
"""


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
        model: classifier.Model,
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
        rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _COLUMNS}
        for index, (recording, when) in enumerate(zip(recordings, times, strict=True)):
            planned = chunks.plan_spans(round(recording.duration_s * chunks.RATE_HZ))
            lost = len(planned) - 1 if recording.state == "partial" else None
            summary = events.summaries[index] if recording.is_heard else None
            session = self._session(recording, when, planned, lost, summary)
            rows["audio_sessions"].append(session)
            rows["session_spans"] += self._spans(recording, when, planned, lost)
            rows["processing_metrics"] += self._metrics(recording, when, planned, lost)
            rows["api_requests"] += self._requests(recording)
            rows["batch_items"] += _items(recording)
        for table, of_table in rows.items():
            with _copying(self._connection, table, _COLUMNS[table]) as copy:
                for row in of_table:
                    copy.write_row(row)
        with _copying(self._connection, "noise_detections", _DETECTION) as copy:
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
                "duration_s": recording.duration_s,
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
        now = self._plan.until
        is_dated = recording.id.int % 5 > 0
        if is_dated and summary is not None:
            lead_s = local_day.lead_s(recording.recorded_at)
            n_quarters = math.ceil(round((lead_s + recording.duration_s) / local_day.QUARTER_S, 6))
            of_audio["quarter_mean_squares"] = n_quarters * [10 ** (recording.level_db / 10)]
        gone = when.finished_at is not None and when.finished_at + _TIDIED_AFTER < now
        latest = when.finished_at or when.heard_at or when.split_at or recording.created_at
        values = {
            "id": recording.id,
            "state": recording.state,
            "file_name": _file_name(recording),
            "recording_key": recording_key(recording.id),
            "size_bytes": 44 + 2 * round(recording.duration_s * RATE_HZ),
            "user_id": recording.caller.id,
            "lane": recording.caller.id,
            "batch_id": recording.batch_id,
            "priority": NORMAL + 1 if recording.batch_id else NORMAL,
            "created_at": recording.created_at,
            "started_at": when.started_at,
            "finished_at": when.finished_at,
            "tidied_at": when.finished_at + _TIDIED_AFTER if gone and when.finished_at else None,
            "due_at": latest,
            "nudged_at": latest,
            "attempt": 0,
            "calibration_db": recording.calibration_db,
            # One recording in five has no recording time.
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
        lines = [
            f"{ids[i]}\t{event}\t{start}\t{end}\t{names[kind]}\t{sure / 1000}\t{level}\t{loudest}"
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


def _file_name(recording: Recording) -> str:
    return f"{recording.recorded_at:%Y%m%d_%H%M%S}.wav"


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


def _copy_batches(connection: psycopg.Connection[Any], recordings: Sequence[Recording]) -> None:
    by_batch: dict[uuid.UUID, Recording] = {}
    for recording in recordings:
        if recording.batch_id:
            by_batch.setdefault(recording.batch_id, recording)
    names = (
        "id",
        "state",
        "user_id",
        "priority",
        "options",
        "items_total",
        "next_item",
        "created_at",
        "finished_at",
    )
    with _copying(connection, "batches", names) as copy:
        for batch_id, first in by_batch.items():
            copy.write_row(
                (
                    batch_id,
                    "taken",
                    first.caller.id,
                    NORMAL + 1,
                    "{}",
                    BATCH_SESSIONS,
                    BATCH_SESSIONS,
                    first.created_at,
                    first.created_at,
                )
            )


@contextmanager
def _copying(
    connection: psycopg.Connection[Any], table: str, names: Sequence[str]
) -> Iterator[psycopg.Copy]:
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        yield copy


#: The tables that get many rows.
_LARGE = (*_COLUMNS, "noise_detections")
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::regclass[])
"""
_INDEXES = """
    SELECT relname, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = ANY (%s::regclass[])
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


@contextmanager
def _indexes_at_the_end(connection: psycopg.Connection[Any], *, tell: Tell) -> Iterator[None]:
    """Drop foreign keys and secondary indexes, and re-create them at the end for all rows."""
    tables = [list(_LARGE)]
    foreign_keys = connection.execute(_FOREIGN_KEYS, tables).fetchall()
    indexes = connection.execute(_INDEXES, tables).fetchall()
    for table, name, _ in foreign_keys:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield
    connection.execute("SET maintenance_work_mem = '256MB'")
    for index, (_, definition) in enumerate(indexes):
        tell(0.6 + 0.3 * index / len(indexes), "indexes")
        connection.execute(definition)
    tell(0.9, "foreign keys")
    for table, name, definition in foreign_keys:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


# --- blobs -------------------------------------------------------------------------------------


def write_blobs(blobs: Blobs, rows: Sequence[Any]) -> None:
    """Write the blobs of sessions (rows of ``audio_sessions``): a recording that is not audio, and
    levels with the length and loudness of the row.
    """
    for row in rows:
        blobs.put(row.recording_key, b"a recording")
        if row.levels_key:
            n_frames = round(row.duration_s * RATE_HZ)
            n_steps = -(-n_frames * STEPS_PER_S // RATE_HZ)
            mean_square = np.full(n_steps, row.totals["a_mean_square"], dtype=np.float32)
            series = LevelSeries(RATE_HZ, n_frames, mean_square, 2 * mean_square)
            blobs.put(row.levels_key, series.to_bytes())
