"""Progress, speed and estimated time left of a session: plain arithmetic.

A stage is done to some *share*. `STAGE_BEGINS` has the relative cost of the stages; the time left
is extrapolated from the time that the current stage took for its share. A recording that is
processed in one claim stays ``queued``, and its share is that of all stages. All times are the
database's, and no state is kept between requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from db.queries.session_view_queries import SessionView
from db.tables.sessions import STAGE_BEGINS, STAGE_BOUNDS, WAITING_FOR_STORAGE

#: Description of each state.
STAGES = {
    "queued": "waiting to be checked",
    "splitting": "decoding and measuring levels",
    "detecting": "listening for noise",
    "aggregating": "merging events",
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
        It decreases only when a session is split again, because its decoded audio is missing or
        because its one claim failed.
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
        is_heard = row.state == "detecting"
        share = row.spans_finished / max(row.spans_total, 1) if is_heard else row.stage_share
        # In the first state, one claim may do all stages.
        begin, end = (0, 100) if row.state == "queued" else STAGE_BOUNDS[row.state]
        done = begin + int((end - begin) * min(max(share, 0.0), 1.0))
        stage = STAGES[_stage_at(done) if row.state == "queued" else row.state]
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
            # With the stages to come.
            time_left_s=round(pace.stage_left_s + pace.stage_s * (100 - end) / (end - begin), 1),
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


def _stage_at(percent: int) -> str:
    """Return the stage at a percentage of the work."""
    return [stage for stage, begin in STAGE_BEGINS.items() if begin <= percent][-1]
