"""The schedule: which job runs, when, and why.

Used by workers, which run the jobs; by recovery, which fills missed slots; by the API, which lists
them; and by the scheduler, which only sends the ticks and loads none of the code that does the
work. All times are UTC.

A tick is a nudge like any other: its handler records the job's slot once and claims the run that
is next (``actors/scheduling/job_runs.py``). So two schedulers do no harm, and slots are filled even
without one; the scheduler only makes the jobs punctual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from periodiq import cron

from actors.messaging import messages
from actors.messaging.messages import Nudge

#: Days of the week as in ISO 8601: 7 is Sunday.
SUNDAY, SATURDAY = 7, 6


@dataclass(frozen=True, kw_only=True)
class PeriodicJob:
    """A job that runs every hour, day or week."""

    nudge: type[Nudge]
    minute: int = 0
    #: None for every hour.
    hour: int | None = None
    #: 1 for Monday to 7 for Sunday; None for every day. (periodiq never fires on 0, ``sun`` and
    #: ``@weekly``.)
    weekday: int | None = None
    #: How many missed slots are filled at most: one if only the latest matters.
    catch_up: int = 1
    #: Whether a new installation runs it at once; else it begins with its next slot.
    at_once: bool = False
    why: str

    @property
    def name(self) -> str:
        """The name of the job, which is that of its actor."""
        return self.nudge.actor

    @property
    def cron(self) -> str:
        """The schedule in the syntax of periodiq."""
        hour, weekday = ("*" if each is None else each for each in (self.hour, self.weekday))
        return f"{self.minute} {hour} * * {weekday}"

    @property
    def period(self) -> timedelta:
        """The time between slots. It is constant: UTC has no missing or repeated hours."""
        if self.hour is None:
            return timedelta(hours=1)
        return timedelta(days=1 if self.weekday is None else 7)

    def latest_slot(self, now: datetime) -> datetime:
        """Return the latest slot that is not in the future."""
        now = now.astimezone(UTC)
        slot = now.replace(
            hour=now.hour if self.hour is None else self.hour,
            minute=self.minute,
            second=0,
            microsecond=0,
        )
        if self.weekday is not None:
            slot -= timedelta(days=(slot.isoweekday() - self.weekday) % 7)
        return slot if slot <= now else slot - self.period

    def next_slot(self, now: datetime) -> datetime:
        """Return the first slot that is in the future."""
        return self.latest_slot(now) + self.period

    def missed(self, newest: datetime | None, *, now: datetime) -> list[datetime]:
        """Return the slots after ``newest`` that are to be filled, oldest first.

        Only the latest slot if ``newest`` is None.
        """
        slot = self.latest_slot(now)
        found: list[datetime] = []
        while len(found) < self.catch_up and (newest is None or slot > newest):
            found.append(slot)
            if newest is None:
                break
            slot -= self.period
        return found[::-1]


JOBS = (
    PeriodicJob(
        nudge=messages.CheckHealth,
        at_once=True,
        why="operators see a fault within the hour",
    ),
    PeriodicJob(
        nudge=messages.StartDailyReports,
        hour=1,
        catch_up=31,
        why="yesterday's reports are ready in the morning",
    ),
    PeriodicJob(
        nudge=messages.CleanUpOldSessions,
        hour=2,
        weekday=SUNDAY,
        why="recordings, which may contain speech, are not kept for longer than needed",
    ),
    PeriodicJob(
        nudge=messages.CleanUpFailedSessions,
        hour=3,
        why="failed sessions are useless and take up space",
    ),
    PeriodicJob(
        nudge=messages.VacuumDatabase,
        hour=4,
        weekday=SATURDAY,
        why="tables stay small and their statistics current; runs in the quietest night",
    ),
    # Not on the hour, when most scheduled jobs run.
    PeriodicJob(
        nudge=messages.CleanUp,
        hour=3,
        minute=23,
        why="the disk does not fill up with orphaned files",
    ),
)

_BY_NAME = {job.name: job for job in JOBS}


def job_named(name: str) -> PeriodicJob | None:
    """Return the job with a name, or None."""
    return _BY_NAME.get(name)


def options_for(nudge: type[Nudge]) -> dict[str, Any]:
    """Return the actor options that periodiq needs; none for an actor without a job."""
    job = job_named(nudge.actor)
    return {} if job is None else {"periodic": cron(job.cron)}
