"""Prometheus metrics of a process: what it counts, its connections, and its build.

Several processes may share a port, of which a scrape reaches one. So every series has the label
``process``, and sums over rates are correct whichever process answers.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.pool import QueuePool

from db.process_metrics import REGISTRY
from db.store import Store

#: From a statement or two to the longest deadline.
RUN_BOUNDS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0, 600.0, 1_800.0)
#: From a clip on idle workers to a day of backlog.
TURNAROUND_BOUNDS_S = (1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0)
#: The service level of recordings: an answer within this many times the length of the recording,
#: plus some seconds for the steps that do not depend on it (docs/runbooks/recordings.md).
IN_TIME_LENGTHS, IN_TIME_S = 2.0, 30.0

_runs = Counter(
    "clamor_actor_runs",
    "Runs of actors, by their result (docs/reliability.md)",
    ["actor", "result"],
    registry=REGISTRY,
)
_run_durations_s = Histogram(
    "clamor_actor_run_duration_seconds",
    "Duration of the runs that had work",
    ["actor"],
    buckets=RUN_BOUNDS_S,
    registry=REGISTRY,
)
_recordings = Counter(
    "clamor_recordings",
    "Recordings that were analysed, and whether within the service level",
    ["state", "in_time"],
    registry=REGISTRY,
)
_turnarounds_s = Histogram(
    "clamor_recording_turnaround_seconds",
    "Time from the request for a recording to its answer",
    buckets=TURNAROUND_BOUNDS_S,
    registry=REGISTRY,
)
_audio_s = Counter("clamor_audio_seconds", "Seconds of audio analysed", registry=REGISTRY)
_webhook_requests = Counter(
    "clamor_webhook_requests",
    "Requests to receivers of webhooks",
    ["outcome"],
    registry=REGISTRY,
)


# A rate misses what a series begins with, so the series of the service level begin with 0.
for _state in ("completed", "partial"):
    for _in_time in ("true", "false"):
        _recordings.labels(_state, _in_time)


def expect_runs(actor: str) -> None:
    """Let the given-up runs of an actor begin with 0, so that the first one alerts."""
    _runs.labels(actor, "given_up")


def run_ended(actor: str, result: str, *, duration_s: float, had_work: bool) -> None:
    """Count a run of an actor."""
    _runs.labels(actor, result).inc()
    if had_work:
        _run_durations_s.labels(actor).observe(duration_s)


def recording_ended(state: str, *, audio_s: float, turnaround_s: float) -> None:
    """Count a recording whose answer is committed."""
    in_time = turnaround_s <= IN_TIME_LENGTHS * audio_s + IN_TIME_S
    _recordings.labels(state, str(in_time).lower()).inc()
    _turnarounds_s.observe(turnaround_s)
    _audio_s.inc(audio_s)


def webhook_requested(*, succeeded: bool) -> None:
    """Count a request to the receiver of a webhook."""
    _webhook_requests.labels("delivered" if succeeded else "failed").inc()


class ProcessMetrics(Collector):
    """Collects the metrics of this process at a scrape."""

    def __init__(self, role: str, store: Store) -> None:
        """Create it in the process that owns ``store``; ``role`` is such as ``worker``."""
        self._role = role
        self._store = store
        #: Facts as labels, by the name of their metric; each has the value 1.
        self.facts: dict[str, dict[str, str]] = {
            "build": {
                "version": version("clamor"),
                "python": platform.python_version(),
                "role": role,
            }
        }

    def describe(self) -> list[Metric]:
        """Return no descriptions, so registration does not trigger a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, each with the label of this process."""
        process = str(os.getpid())
        for family in (*self._of_facts(), *self._of_pool(), *REGISTRY.collect()):
            family.samples = [
                sample._replace(labels={**sample.labels, "process": process})
                for sample in family.samples
            ]
            yield family

    def _of_facts(self) -> Iterator[Metric]:
        for name, labels in self.facts.items():
            names, values = list(labels), list(labels.values())
            family = GaugeMetricFamily(f"clamor_{name}_info", "Facts, as labels", labels=names)
            family.add_metric(values, 1.0)
            yield family

    def _of_pool(self) -> Iterator[Metric]:
        pool = self._store.engine.pool
        assert isinstance(pool, QueuePool)
        yield GaugeMetricFamily(
            "clamor_database_pool_in_use",
            "Connections to Postgres in use by this process",
            value=pool.checkedout(),
        )
        yield GaugeMetricFamily(
            "clamor_database_pool_size",
            "The most connections to Postgres of this process",
            value=pool.size(),
        )
