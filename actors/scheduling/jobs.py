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
from functools import partial
from typing import Any

import dramatiq
from periodiq import cron
from prometheus_client import CollectorRegistry

from actors.messaging import broker, messages, queues
from actors.messaging.messages import Nudge
from actors.observability import probe_listener
from actors.observability.logs import configure
from actors.observability.metrics import ProcessMetrics
from actors.observability.readiness import Readiness
from actors.scheduling.work_due import WorkDue
from db import migrate
from db.settings import Settings, from_environment
from db.store import Store

#: Connections of the scheduler to Postgres, for a scrape and a probe at once.
PROBE_CONNECTIONS = 2
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


def boot() -> None:
    """Set up the scheduler process, with actors that can be sent but do nothing here."""
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
        )(_handled_by_workers)
    _serve_probes(settings, ticking)


def _serve_probes(settings: Settings, ticking: dramatiq.Broker) -> None:
    """Answer probes and metrics, if the settings have an address for them."""
    if settings.probe_address is None:
        return
    store = Store(
        settings.database_url,
        pool_size=PROBE_CONNECTIONS,
        options=settings.connection_options("clamor-scheduler"),
    )
    registry = CollectorRegistry()
    registry.register(ProcessMetrics("scheduler", store))
    registry.register(WorkDue(store))
    readiness = Readiness(
        needed={"broker": partial(queues.check, ticking)},
        shown={"database": partial(migrate.check, store)},
    )
    probe_listener.start(probe_listener.application(readiness, registry), settings.probe_address)


def _handled_by_workers() -> None:
    """Placeholder for the worker's function, which the scheduler never calls."""
