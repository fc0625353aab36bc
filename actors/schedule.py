"""The clock: which job, when, and why.

Read by workers, which run the jobs, and by the scheduler, which only sends the ticks and loads
none of the code that does the work. All times are UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dramatiq
from periodiq import cron

from actors import broker, messages
from actors.logs import configure
from actors.messages import Nudge
from db.settings import from_environment


@dataclass(frozen=True)
class Job:
    """A nudge that the clock sends."""

    nudge: type[Nudge]
    #: Minute, hour, day of month, month, day of week (1 to 7: 0, ``sun`` and ``@weekly`` never
    #: fire with periodiq).
    cron: str
    why: str


JOBS = (
    Job(messages.CheckHealth, "0 * * * *", "an operator hears of a fault within the hour"),
    # At night, and not on the hour, when every other clock strikes.
    Job(messages.CleanUp, "23 3 * * *", "a disk does not fill up with what nobody knows of"),
)


def options_for(nudge: type[Nudge]) -> dict[str, Any]:
    """What periodiq wants to find on the actor of a job."""
    for job in JOBS:
        if job.nudge is nudge:
            return {"periodic": cron(job.cron)}
    return {}


def boot() -> None:
    """Entry of the scheduler process: actors that can be sent and do nothing here."""
    settings = from_environment()
    configure(settings.log_level)
    ticking = broker.setup(settings)
    dramatiq.set_broker(ticking)
    for job in JOBS:
        dramatiq.actor(
            broker=ticking,
            actor_name=job.nudge.actor,
            queue_name=messages.queue_name(job.nudge, prefix=settings.queue_prefix),
            **options_for(job.nudge),
        )(_elsewhere)


def _elsewhere() -> None:
    """Stands for the worker's own function, which the scheduler never calls."""
