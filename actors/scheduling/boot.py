"""Sets up the scheduler process: actors that periodiq sends ticks to, probes and metrics."""

from __future__ import annotations

from functools import partial

import dramatiq
from prometheus_client import CollectorRegistry

from actors.messaging import broker, messages, queues
from actors.observability import probe_listener
from actors.observability.logs import configure
from actors.observability.metrics import ProcessMetrics
from actors.observability.readiness import Readiness
from actors.scheduling import jobs
from actors.scheduling.work_due import WorkDue
from db import migrate
from db.settings import Settings, from_environment
from db.store import Store

#: Connections to Postgres, for a scrape and a probe at once.
PROBE_CONNECTIONS = 2


def boot() -> None:
    """Set up the scheduler process, with actors that can be sent but do nothing here."""
    settings = from_environment()
    configure(settings.log_level)
    ticking = broker.setup(settings)
    dramatiq.set_broker(ticking)
    for job in jobs.JOBS:
        dramatiq.actor(
            broker=ticking,
            actor_name=job.name,
            queue_name=messages.queue_name(job.nudge, prefix=settings.queue_prefix),
            **jobs.options_for(job.nudge),
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
