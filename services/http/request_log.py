"""The records of all requests: kept in memory for a moment, and written by a thread of their own.

A request never waits for its record. How many records may wait for the database is bounded: what
does not fit is dropped and counted. While the database is away they wait, and are written when it
is back. A write whose answer was lost is done again, so that a request may then be there twice.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import psycopg
import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from db.queries import request_queries
from db.queries.request_queries import Request
from db.store import Store
from services.http.exchange import PROBES, Exchange

log = structlog.get_logger(__name__)

#: Records that wait at most: some 20 MB, and half a minute of the busiest process.
MOST_WAITING = 50_000
#: What is written at once, and sooner than after :data:`WRITE_S` if there is so much.
BATCH_ROWS = 2_000
#: Between two writes: what a process loses that is killed.
WRITE_S = 1.0
#: The same after a write that failed.
AWAY_S = 2.0
#: How often it is told that records are dropped.
TELL_S = 30.0
#: How long the end of the process waits for the last write.
CLOSE_S = 5.0


class RequestLog(Collector):
    """A listener that makes each exchange a row of ``api_requests``."""

    def __init__(self, store: Store, *, most_waiting: int = MOST_WAITING) -> None:
        self._store = store
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        #: The writer alone takes from it, and only what it has written.
        self._waiting: deque[Exchange] = deque()
        self._batch_rows = BATCH_ROWS
        self._wake = threading.Event()
        self._closing = False
        self._n_written = 0
        self._n_dropped = 0
        self._n_told = 0
        self._tell_at_s = 0.0
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def begun(self, exchange: Exchange, /) -> None:
        """Nothing is known yet."""

    def ended(self, exchange: Exchange, /) -> None:
        """Keep the exchange until it is written; drop it if too many are kept."""
        if exchange.route in PROBES:
            return
        with self._lock:
            n_waiting = len(self._waiting)
            if n_waiting >= self._most_waiting:
                self._n_dropped += 1
                return
            self._waiting.append(exchange)
        if n_waiting == BATCH_ROWS:
            self._wake.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what waits, and stop; what is not written in time is lost, and told so."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._waiting:
            log.warning("request_records_lost", records=len(self._waiting))

    def describe(self) -> list[Metric]:
        """Nothing: registering asks nobody."""
        return []

    def collect(self) -> Iterator[Metric]:
        """How many records wait, were written and were dropped."""
        yield GaugeMetricFamily(
            "clamor_request_records_waiting", "Records of requests that wait to be written",
            value=len(self._waiting),
        )  # fmt: skip
        yield CounterMetricFamily(
            "clamor_request_records_written", "Records of requests that were written",
            value=self._n_written,
        )  # fmt: skip
        yield CounterMetricFamily(
            "clamor_request_records_dropped",
            "Records of requests that did not fit into memory, or that the database refused",
            value=self._n_dropped,
        )  # fmt: skip

    def _run(self) -> None:
        pause_s = WRITE_S
        while not self._closing:
            self._wake.wait(pause_s)
            self._wake.clear()
            pause_s = WRITE_S if self._write_all() else AWAY_S
            self._tell_drops()
        self._write_all()

    def _write_all(self) -> bool:
        """Write what waits; False if the database does not take it now."""
        try:
            while self._waiting:
                self._write_batch()
        except Exception as error:
            log.warning(
                "request_records_wait", records=len(self._waiting), error=type(error).__name__
            )
            return False
        return True

    def _write_batch(self) -> None:
        """Write the oldest. A row that the database refuses costs itself alone: the batch that
        it is in is halved until it is found.
        """
        with self._lock:
            batch = list(islice(self._waiting, self._batch_rows))
        try:
            with self._store.transaction() as db:
                request_queries.add_requests(db, map(_row, batch))
            self._n_written += len(batch)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(batch) > 1:
                self._batch_rows = len(batch) // 2
                return
            log.error("request_record_refused", error=str(error), request_id=batch[0].request_id)
            with self._lock:
                self._n_dropped += 1
        self._batch_rows = min(self._batch_rows * 2, BATCH_ROWS)
        with self._lock:
            for _ in batch:
                self._waiting.popleft()

    def _tell_drops(self) -> None:
        if self._n_dropped > self._n_told and time.monotonic() >= self._tell_at_s:
            log.warning("request_records_dropped", records=self._n_dropped - self._n_told)
            self._n_told = self._n_dropped
            self._tell_at_s = time.monotonic() + TELL_S


def _row(exchange: Exchange) -> Request:
    return Request(
        request_id=exchange.request_id,
        method=exchange.method,
        route=exchange.route,
        status=exchange.status,
        duration_s=exchange.duration_s,
        bytes_in=exchange.bytes_in,
        bytes_out=exchange.bytes_out,
        key_id=exchange.key_id,
        user_id=exchange.user_id,
        session_id=exchange.session_id,
        received_at=datetime.fromtimestamp(exchange.received_at_s, UTC),
    )
