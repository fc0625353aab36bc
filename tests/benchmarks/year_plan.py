"""What six callers recorded in a year: when, how long, how loud, and what was found."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from db.tables.sessions import UNFINISHED_STATES
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
#: Mean level of recordings by day and by night in dB re full scale, and its standard deviation.
DAY_DB, NIGHT_DB, SPREAD_DB = -42.0, -56.0, 6.0
RATE_HZ = 44_100


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


def generator(plan: Plan) -> np.random.Generator:
    """Return the random generator of a plan."""
    return np.random.default_rng(plan.seed)


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
