"""The request log: buffered in memory and written to the database by a thread.

A request never waits for its row. The buffer is bounded: rows that do not fit are dropped and
counted. While the database is unavailable, or lacks a partition for them, rows wait in the buffer.
A write is repeated if its outcome is unknown, so a request may be logged twice.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

import psycopg
import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from db.queries import request_queries, session_queries
from db.queries.request_queries import RequestRow
from db.store import Store
from services.http.exchange import Exchange

log = structlog.get_logger(__name__)

#: Size of the buffer in rows: about 20 MB, or half a minute of the busiest process.
MOST_WAITING = 50_000
#: Rows per write; so many waiting rows are written before :data:`WRITE_S` is over.
BATCH_ROWS = 2_000
#: Time between writes; a killed process loses the rows of this time.
WRITE_S = 1.0
#: Like :data:`WRITE_S`, after a failed write.
AWAY_S = 2.0
#: Minimum time between log lines about dropped rows.
TELL_S = 30.0
#: How long shutdown waits for the last write.
CLOSE_S = 5.0


class RequestLog(Collector):
    """A listener that writes each exchange of a valid key as a row of ``api_requests``."""

    def __init__(self, store: Store, *, most_waiting: int = MOST_WAITING) -> None:
        self._store = store
        self._most_waiting = most_waiting
        self._lock = threading.Lock()
        #: Only the writer removes items, and only after they are written.
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
        """Do nothing: a row needs the finished exchange."""

    def ended(self, exchange: Exchange, /) -> None:
        """Buffer the exchange; drop it if the buffer is full.

        Requests without a valid key get no row: anybody can make thousands of them in a second.
        """
        if exchange.key_id is None:
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
        """Write the remaining rows and stop; rows not written in time are lost and logged."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s)
        if self._waiting:
            log.warning("request_records_lost", records=len(self._waiting))

    def describe(self) -> list[Metric]:
        """Return no descriptions, so registration does not trigger a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Collect the numbers of waiting, written and dropped rows."""
        yield GaugeMetricFamily(
            "clamor_request_records_waiting",
            "Rows of the request log waiting to be written",
            value=len(self._waiting),
        )
        yield CounterMetricFamily(
            "clamor_request_records_written",
            "Rows of the request log written",
            value=self._n_written,
        )
        yield CounterMetricFamily(
            "clamor_request_records_dropped",
            "Rows of the request log that did not fit into memory or were rejected by the database",
            value=self._n_dropped,
        )

    def _run(self) -> None:
        pause_s = WRITE_S
        while not self._closing:
            self._wake.wait(pause_s)
            self._wake.clear()
            pause_s = WRITE_S if self._write_all() else AWAY_S
            self._tell_drops()
        self._write_all()

    def _write_all(self) -> bool:
        """Write all waiting rows; return False if the database fails."""
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
        """Write the oldest rows. If the database rejects a batch, halve it until the bad row is
        isolated, and drop only that row.
        """
        with self._lock:
            batch = list(islice(self._waiting, self._batch_rows))
        try:
            with self._store.transaction() as tx:
                # The clock of the database decides on the partition; that of this process may be
                # wrong.
                now, now_s = session_queries.clock(tx), time.perf_counter()
                rows = (_row(each, now - timedelta(seconds=now_s - each.began_s)) for each in batch)
                request_queries.add_requests(tx, rows)
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


def _row(exchange: Exchange, received_at: datetime) -> RequestRow:
    return RequestRow(
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
        received_at=received_at,
    )
