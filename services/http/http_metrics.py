"""Prometheus metrics of the requests that this process answers.

Unlike the figures in ``metrics.py``, these are per process. Where several processes share a port, a
scrape reaches one of them. So every series has the label ``process``, and sums over rates are
correct whichever process answers.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from services.http.exchange import Exchange

# Otherwise each series gets a second one with its time of creation.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: From reading one session to a long upload.
DURATION_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class HttpMetrics:
    """A listener that counts and times requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._process = str(os.getpid())
        self._requests = Counter(
            "clamor_http_requests",
            "Requests answered",
            ["route", "method", "status", "process"],
            registry=registry,
        )
        self._durations_s = Histogram(
            "clamor_http_request_duration_seconds",
            "Time from the arrival of a request to the end of its response",
            ["route", "process"],
            buckets=DURATION_BOUNDS_S,
            registry=registry,
        )
        self._in_progress = Gauge(
            "clamor_http_requests_in_progress",
            "Requests in progress",
            ["process"],
            registry=registry,
        ).labels(self._process)
        self._without_key = Counter(
            "clamor_http_requests_without_key",
            "Requests answered without a valid key, probes included; the request log has none",
            ["process"],
            registry=registry,
        ).labels(self._process)
        # Looking up a child by its labels takes as long as all the rest; there are few children.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def begun(self, _exchange: Exchange, /) -> None:
        """Count a request as in progress."""
        self._in_progress.inc()

    def ended(self, exchange: Exchange, /) -> None:
        """Count and time a finished request."""
        self._in_progress.dec()
        status_class = exchange.status // 100
        counted = (exchange.route, exchange.method, status_class)
        counter = self._counters.get(counted)
        if counter is None:
            counter = self._counters[counted] = self._requests.labels(
                exchange.route, exchange.method, f"{status_class}xx", self._process
            )
        counter.inc()
        if exchange.key_id is None:
            self._without_key.inc()
        histogram = self._histograms.get(exchange.route)
        if histogram is None:
            histogram = self._histograms[exchange.route] = self._durations_s.labels(
                exchange.route, self._process
            )
        histogram.observe(exchange.duration_s)
