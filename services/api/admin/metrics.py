"""``GET /metrics``: queues, sessions and Postgres, for Prometheus.

These metrics describe the installation, so every API process returns the same values;
``http_metrics.py`` and ``request_log.py`` add metrics of the process's own requests.
Values are read at a scrape and cached for a few seconds. If the broker or the database does not
respond in time, the scrape lacks its metrics; no thread waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dramatiq
import falcon
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.messaging import kinds, queues
from actors.messaging.queues import Depth
from actors.observability.cached_probe import CachedProbe
from db import typed
from db.queries import job_run_queries, queue_queries, server_queries, session_queries
from db.queries.queue_queries import Backlog
from db.queries.server_queries import ServerState
from db.settings import Settings
from db.store import Store
from db.tables.documents.job_results import HealthResult
from db.tables.job_runs import JobRun
from services.http.deps import Deps
from services.http.operations import operation
from services.http.resource import Resource

#: Cache lifetime. Longer spares the broker and the database; shorter gives fresher values.
FRESH_S = 5.0
#: Cache lifetime of the count of finished sessions, which scans the whole table: 0.3 s for
#: 200,000 sessions.
FRESH_FINISHED_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Values read from the database."""

    #: By queue.
    backlogs: dict[str, Backlog]
    unfinished: dict[str, int]
    oldest_unfinished_s: float | None
    #: The latest health check; None before the first.
    health: JobRun | None


class Figures(Collector):
    """Collects metrics from the broker and the database at a scrape."""

    def __init__(self, store: Store, broker: dramatiq.Broker, settings: Settings) -> None:
        self._store = store

        def depths() -> list[Depth]:
            return queues.depths(
                broker, prefix=settings.queue_prefix, api_url=settings.rabbitmq_api_url
            )

        self._depths = CachedProbe("metrics-broker", depths, fresh_s=FRESH_S)
        self._rows = CachedProbe("metrics-rows", self._read_rows, fresh_s=FRESH_S)
        self._finished = CachedProbe(
            "metrics-finished", self._count_ended, fresh_s=FRESH_FINISHED_S
        )
        self._server = CachedProbe("metrics-server", self._read_server, fresh_s=FRESH_S)

    def describe(self) -> list[Metric]:
        """Return no descriptions, so registration does not trigger a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that are available."""
        for latest in (self._depths, self._rows, self._finished, self._server):
            # In parallel: a scrape waits for the slowest source, not for the sum.
            latest.ask()
        depths, rows = self._depths.get(), self._rows.get()
        yield _one("broker_up", "Whether the broker answers", float(depths is not None))
        yield _one("database_up", "Whether Postgres answers", float(rows is not None))
        if depths is not None:
            yield from _of_broker(depths)
        if rows is not None:
            yield from _of_rows(rows, self._finished.get() or {})
            if rows.health is not None:
                yield from _of_health(rows.health)
        if (server := self._server.get()) is not None:
            yield from _of_server(server)

    def _read_rows(self) -> Rows:
        with self._store.transaction() as tx:
            return Rows(
                backlogs=kinds.backlogs(tx),
                unfinished=queue_queries.count_unfinished(tx),
                oldest_unfinished_s=session_queries.oldest_unfinished_s(tx),
                health=job_run_queries.latest_result(tx, "health_check"),
            )

    def _count_ended(self) -> dict[str, int]:
        with self._store.transaction() as tx:
            return queue_queries.count_finished(tx)

    def _read_server(self) -> ServerState:
        with self._store.reading() as tx:
            return server_queries.state(tx)


def _of_broker(depths: list[Depth]) -> Iterator[Metric]:
    by_queue = {depth.nudge.queue: depth for depth in depths}
    yield _each(
        "queue_ready",
        "Messages that wait for a worker",
        "queue",
        {queue: depth.ready for queue, depth in by_queue.items()},
    )
    yield _each(
        "queue_dead",
        "Dead letters, kept for inspection and replay",
        "queue",
        {queue: depth.dead for queue, depth in by_queue.items()},
    )
    yield _each(
        "queue_consumers",
        "Worker processes that consume the queue",
        "queue",
        {queue: depth.consumers for queue, depth in by_queue.items()},
    )
    yield _each(
        "queue_unacked",
        "Messages that workers have not acknowledged (with CLAMOR_RABBITMQ_API_URL)",
        "queue",
        {queue: depth.unacked for queue, depth in by_queue.items() if depth.unacked is not None},
    )


def _of_rows(rows: Rows, finished: dict[str, int]) -> Iterator[Metric]:
    yield _each(
        "queue_held",
        "Rows that workers have claimed, or that wait for a retry",
        "queue",
        {queue: backlog.held for queue, backlog in rows.backlogs.items()},
    )
    yield _each("sessions", "Sessions by their state", "state", rows.unfinished | finished)
    yield _one(
        "unfinished_oldest_seconds",
        "Age of the oldest unfinished session",
        rows.oldest_unfinished_s or 0.0,
    )


def _of_health(run: JobRun) -> Iterator[Metric]:
    if run.finished_at is not None:
        at = run.finished_at.timestamp()
        yield _one("health_checked_timestamp_seconds", "When the latest health check ended", at)
    # A run that was skipped has no checks.
    is_complete = run.result is not None and "checks" in run.result
    checks = typed.convert(run.result, HealthResult)["checks"] if is_complete else {}
    yield _each(
        "health_ok",
        "Whether a part passed the latest health check",
        "part",
        {name: float(check["ok"] is True) for name, check in checks.items()},
    )


def _of_server(server: ServerState) -> Iterator[Metric]:
    yield _one(
        "database_transaction_oldest_seconds",
        "Age of the oldest transaction that our role may see",
        server.oldest_transaction_s,
    )
    yield _one(
        "database_xid_share",
        "Share of the transaction IDs used; Postgres stops writing near 1",
        server.xid_share,
    )
    yield _one(
        "database_invalid_indexes",
        "Invalid indexes, except those under construction",
        float(len(server.invalid_indexes)),
    )
    yield _each("database_live_rows", "Rows, as estimated by Postgres", "table", server.live_rows)
    yield _each("database_dead_rows", "Dead rows that wait for a vacuum", "table", server.dead_rows)
    connections = GaugeMetricFamily(
        "clamor_database_connections",
        "Connections to the database; those of roles that ours may not see are hidden",
        labels=["application", "state"],
    )
    for each in server.connections:
        connections.add_metric([each.application, each.state], each.number)
    yield connections


def _one(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"clamor_{name}", meaning, value=value)


def _each(name: str, meaning: str, label: str, values: Any) -> Metric:
    family = GaugeMetricFamily(f"clamor_{name}", meaning, labels=[label])
    for of, value in values.items():
        family.add_metric([of], value)
    return family


class Metrics(Resource):
    """``GET /metrics``."""

    def __init__(self, deps: Deps, *, registry: CollectorRegistry) -> None:
        super().__init__(deps)
        self._registry = registry
        self._registry.register(Figures(deps.store, deps.publisher.broker, deps.settings))

    @operation(scope=None, media=CONTENT_TYPE_LATEST)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Return metrics in the Prometheus text format. The status is always 200; metrics of
        an unavailable source are left out.
        """
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = generate_latest(self._registry)
