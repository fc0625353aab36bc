"""The clock: which job, when, and why.

Read by workers, which run the jobs, by recovery, which fills slots that were missed, by the
API, which tells of them, and by the scheduler, which only sends the ticks and loads none of the
code that does the work. All times are UTC.

A tick is a nudge like any other: whoever handles it writes the job's slot down, once, and takes
the run that is next (``actors/scheduling/job_runs.py``). So two schedulers do no harm, and none is
needed for a slot to be filled; the scheduler makes it punctual.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dramatiq
from periodiq import cron

from actors.messaging import broker, messages
from actors.messaging.messages import Nudge
from actors.observability.logs import configure
from db.settings import from_environment

#: How many days of the week there are; 7 is Sunday, as ISO has it.
SUNDAY, SATURDAY = 7, 6


@dataclass(frozen=True, kw_only=True)
class Job:
    """A nudge that the clock sends, every hour, day or week."""

    nudge: type[Nudge]
    minute: int = 0
    #: None for every hour.
    hour: int | None = None
    #: 1 for Monday to 7 for Sunday; None for every day. (periodiq never fires on 0, ``sun`` and
    #: ``@weekly``.)
    weekday: int | None = None
    #: How many slots are made good at most, if they were missed: one where only the latest matters.
    catch_up: int = 1
    #: Whether a new installation does it at once; else it begins with its next slot.
    at_once: bool = False
    why: str

    @property
    def name(self) -> str:
        """What the job is called: its actor."""
        return self.nudge.actor

    @property
    def cron(self) -> str:
        """The schedule, as periodiq reads it."""
        hour, weekday = ("*" if each is None else each for each in (self.hour, self.weekday))
        return f"{self.minute} {hour} * * {weekday}"

    @property
    def period(self) -> timedelta:
        """From one slot to the next; in UTC no hour is missing, and none comes twice."""
        if self.hour is None:
            return timedelta(hours=1)
        return timedelta(days=1 if self.weekday is None else 7)

    def latest_slot(self, now: datetime) -> datetime:
        """The latest slot that is not in the future."""
        now = now.astimezone(UTC)
        slot = now.replace(
            hour=now.hour if self.hour is None else self.hour,
            minute=self.minute, second=0, microsecond=0,
        )  # fmt: skip
        if self.weekday is not None:
            slot -= timedelta(days=(slot.isoweekday() - self.weekday) % 7)
        return slot if slot <= now else slot - self.period

    def next_slot(self, now: datetime) -> datetime:
        """The first slot that is in the future."""
        return self.latest_slot(now) + self.period

    def missed(self, newest: datetime | None, *, now: datetime) -> list[datetime]:
        """The slots behind the newest that is known of, oldest first, as far as they are made good.

        Where none is known, the latest alone is.
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
    Job(
        nudge=messages.CheckHealth, at_once=True,
        why="an operator hears of a fault within the hour",
    ),
    Job(
        nudge=messages.StartDailyReports, hour=1, catch_up=31,
        why="whoever comes in the morning finds what happened yesterday",
    ),
    Job(
        nudge=messages.CleanUpOldSessions, hour=2, weekday=SUNDAY,
        why="recordings of people are not kept for longer than they are needed",
    ),
    Job(
        nudge=messages.CleanUpFailedSessions, hour=3,
        why="what failed is of no use, and takes space",
    ),
    Job(
        nudge=messages.VacuumDatabase, hour=4, weekday=SATURDAY,
        why="tables stay small and their statistics true, in the quietest night",
    ),
    # Not on the hour, when every other clock strikes.
    Job(
        nudge=messages.CleanUp, hour=3, minute=23,
        why="a disk does not fill up with what nobody knows of",
    ),
)  # fmt: skip

_BY_NAME = {job.name: job for job in JOBS}


def job_named(name: str) -> Job | None:
    """The job of a name."""
    return _BY_NAME.get(name)


def options_for(nudge: type[Nudge]) -> dict[str, Any]:
    """What periodiq wants to find on the actor of a job."""
    job = job_named(nudge.actor)
    return {} if job is None else {"periodic": cron(job.cron)}


def boot() -> None:
    """Entry of the scheduler process: actors that can be sent and do nothing here."""
    settings = from_environment()
    configure(settings.log_level)
    ticking = broker.setup(settings)
    dramatiq.set_broker(ticking)
    for job in JOBS:
        dramatiq.actor(
            broker=ticking,
            actor_name=job.name,
            queue_name=messages.queue_name(job.nudge, prefix=settings.queue_prefix),
            **options_for(job.nudge),
        )(_elsewhere)


def _elsewhere() -> None:
    """Stands for the worker's own function, which the scheduler never calls."""
