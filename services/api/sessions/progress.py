"""How far a session is, how fast, and how long it will still take: plain arithmetic.

A stage is done to some *share*. What the stages of a recording cost beside each other is in
:data:`STAGES`; the rest is extrapolated from how long the current one took for its share. Time is
the database's, and nothing is remembered between two looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from db.tables.sessions import WAITING_FOR_STORAGE, AudioSession

#: What each state does, in words, and the share of the work that lies behind it, in percent: as
#: measured on recordings of an hour in one process. More workers hear faster than this says.
STAGES = {
    "queued": ("waiting to be checked", 0),
    "splitting": ("decoding and measuring levels", 1),
    "detecting": ("listening for noise", 40),
    "aggregating": ("merging events", 75),
}
#: Less of a stage than this, in seconds and as a share, tells nothing about the rest.
TELLING_S = 1.0
TELLING_SHARE = 0.01
#: Signs of life may be this far apart before a stage is taken to stand still: the workers tell
#: every second.
USUAL_GAP_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a session is.

    Attributes
    ----------
    stage : str
        What is done now, in words; of a session that has ended its state.
    percent : int
        It falls only when a session is sent back to be split again.
    speed : float or None
        Seconds of audio heard per second, while it is listened to; None while nobody can tell.
    time_left_s : float or None
        An estimate; None while nobody can tell, and at the end.
    """

    stage: str
    percent: int
    speed: float | None = None
    time_left_s: float | None = None

    @classmethod
    def of(cls, row: AudioSession, *, now: datetime) -> Self:
        """The progress of a session's row, at the database's ``now``."""
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
    """How long a stage took for its share: ``worked_s`` until the share last grew, and ``quiet_s``
    since. ``gap_s`` is what commonly lies between two signs of life.
    """

    share: float
    worked_s: float
    quiet_s: float
    gap_s: float

    @property
    def is_telling(self) -> bool:
        """Whether enough is done to tell the rest by."""
        return self.share >= TELLING_SHARE and self.worked_s >= TELLING_S

    @property
    def stage_s(self) -> float:
        """How long the whole stage takes; longer and longer while it stands still."""
        return (self.worked_s + max(0.0, self.quiet_s - self.gap_s)) / self.share

    @property
    def stage_left_s(self) -> float:
        """How long the stage still takes; between two signs of life it counts down."""
        return max(0.0, self.stage_s * (1 - self.share) - min(max(0.0, self.quiet_s), self.gap_s))


def percent(state: str, share: float) -> int:
    """How much of a session is done when ``share`` of a stage is."""
    begin, end = _bounds(state)
    return begin + int((end - begin) * min(max(share, 0.0), 1.0))


def time_left_s(state: str, pace: Pace) -> float:
    """How long a session still takes, with the stages that are still to come."""
    begin, end = _bounds(state)
    return pace.stage_left_s + pace.stage_s * (100 - end) / (end - begin)


def _bounds(state: str) -> tuple[int, int]:
    """The percents at which a stage begins and ends."""
    begins = [begin for _, begin in STAGES.values()] + [100]
    number = list(STAGES).index(state)
    return begins[number], begins[number + 1]
