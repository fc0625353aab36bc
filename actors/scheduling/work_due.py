"""How much work is due, for the whole installation: the signal by which workers are scaled.

The scheduler serves it, of which an installation has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from actors.messaging import kinds
from actors.observability.cached_probe import CachedProbe
from db.queries.queue_queries import Backlog
from db.store import Store

#: Cache lifetime. Longer spares the database; shorter gives fresher values.
FRESH_S = 5.0


class WorkDue(Collector):
    """Counts the rows that are due and wait for a worker, at a scrape."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._backlogs = CachedProbe("work-due", self._read, fresh_s=FRESH_S)

    def describe(self) -> list[Metric]:
        """Return no descriptions, so registration does not trigger a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures by the kind of work; nothing while Postgres is unavailable."""
        backlogs = self._backlogs.get()
        if backlogs is None:
            return
        due = GaugeMetricFamily(
            "clamor_work_due", "Rows that are due and wait for a worker", labels=["kind"]
        )
        oldest = GaugeMetricFamily(
            "clamor_oldest_due_seconds",
            "How long the oldest row has been waiting for a worker; 0 if none does",
            labels=["kind"],
        )
        for kind, backlog in backlogs.items():
            due.add_metric([kind], backlog.due)
            oldest.add_metric([kind], backlog.oldest_s or 0.0)
        yield due
        yield oldest

    def _read(self) -> dict[str, Backlog]:
        with self._store.transaction() as tx:
            return kinds.backlogs(tx)
