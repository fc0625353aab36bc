"""Progress, speed and estimated time left of a session: plain arithmetic.

A stage is done to some *share*. :data:`STAGES` holds the relative cost of the stages; the time left
is extrapolated from the time that the current stage took for its share. All times are the
database's, and no state is kept between requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from db.queries.session_view_queries import SessionView
from db.tables.sessions import WAITING_FOR_STORAGE

#: Description of each state, and the percentage of the work done when it begins, measured on
#: recordings of one hour in one process. With more workers, ``detecting`` takes a smaller share.
STAGES = {
    "queued": ("waiting to be checked", 0),
    "splitting": ("decoding and measuring levels", 1),
    "detecting": ("listening for noise", 40),
    "aggregating": ("merging events", 75),
}
#: Minimum of a stage to extrapolate from, in seconds and as a share.
TELLING_S = 1.0
TELLING_SHARE = 0.01
#: Longest gap between progress updates before a stage counts as stalled; workers send one every
#: second.
USUAL_GAP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a session.

    Attributes
    ----------
    stage : str
        What is done now, in words; the state of a session that has ended.
    percent : int
        It decreases only when a session is sent back to be split again.
    speed : float or None
        Seconds of audio analysed per second while ``detecting``; None while unknown.
    time_left_s : float or None
        An estimate; None while unknown, and at the end.
    """

    stage: str
    percent: int
    speed: float | None = None
    time_left_s: float | None = None

    @classmethod
    def of(cls, row: SessionView, *, now: datetime) -> Self:
        """Compute the progress of a session's row at ``now``, the database's time."""
        if row.state not in STAGES:
            return cls(stage=row.state, percent=100)
        stage, _ = STAGES[row.state]
        is_heard = row.state == "detecting"
        share = row.spans_finished / max(row.spans_total, 1) if is_heard else row.stage_share
        done = percent(row.state, share)
        if row.waits_for_storage:
            return cls(stage=WAITING_FOR_STORAGE, percent=done)
        if row.stage_since is None or row.stage_told_at is None:
            return cls(stage=stage, percent=done)
        worked_s = (row.stage_told_at - row.stage_since).total_seconds()
        pace = Pace(
            share=share,
            worked_s=worked_s,
            quiet_s=(now - row.stage_told_at).total_seconds(),
            gap_s=worked_s / max(row.spans_finished, 1) if is_heard else USUAL_GAP_S,
        )
        if not pace.is_telling:
            return cls(stage=stage, percent=done)
        return cls(
            stage=stage,
            percent=done,
            speed=round((row.duration_s or 0) / pace.stage_s, 1) if is_heard else None,
            time_left_s=round(time_left_s(row.state, pace), 1),
        )


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The time that a stage took for its share: ``worked_s`` until the share last grew, and
    ``quiet_s`` since then. ``gap_s`` is the usual interval between progress updates.
    """

    share: float
    worked_s: float
    quiet_s: float
    gap_s: float

    @property
    def is_telling(self) -> bool:
        """Whether enough is done to extrapolate from."""
        return self.share >= TELLING_SHARE and self.worked_s >= TELLING_S

    @property
    def stage_s(self) -> float:
        """Estimated duration of the whole stage; it grows while the stage stalls."""
        return (self.worked_s + max(0.0, self.quiet_s - self.gap_s)) / self.share

    @property
    def stage_left_s(self) -> float:
        """Estimated time left of the stage; it counts down between progress updates."""
        return max(0.0, self.stage_s * (1 - self.share) - min(max(0.0, self.quiet_s), self.gap_s))


def percent(state: str, share: float) -> int:
    """Return the percentage of a session that is done when ``share`` of a stage is."""
    begin, end = _bounds(state)
    return begin + int((end - begin) * min(max(share, 0.0), 1.0))


def time_left_s(state: str, pace: Pace) -> float:
    """Return the estimated time left of a session, including the stages to come."""
    begin, end = _bounds(state)
    return pace.stage_left_s + pace.stage_s * (100 - end) / (end - begin)


def _bounds(state: str) -> tuple[int, int]:
    """Return the percentages at which a stage begins and ends."""
    begins = [begin for _, begin in STAGES.values()] + [100]
    number = list(STAGES).index(state)
    return begins[number], begins[number + 1]
