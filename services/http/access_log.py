"""The access log: one ``request`` line per exchange on standard error.

Of requests without a valid key, which anybody can make, some get a line.

The lines have the same form as all others, but bypass the logging library: it takes 19
microseconds per line, and this takes two. A line contains the route's template, never the path or
the query, which may contain private data, and no header except the request ID.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime

import msgspec

from services.http.exchange import PROBES, Exchange

#: Lines per second of requests without a valid key; the metrics count all of them.
STRANGERS_PER_S = 10.0


class AccessLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the access log."""

    method: str
    route: str
    status: int
    duration_s: float
    bytes_in: int
    bytes_out: int
    key_id: str | None
    session_id: str | None = None
    request_id: str
    #: Requests without a valid key that have no line, since the last one that has.
    left_out: int = 0
    #: Set if the client did not read the whole response.
    is_broken_off: bool = False
    event: str
    level: str
    logger: str
    timestamp: str


class AccessLog:
    """A listener that writes the access log."""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._next_stranger_s = 0.0
        self._n_left_out = 0

    def begun(self, exchange: Exchange, /) -> None:
        """Do nothing: a line needs the finished exchange."""

    def ended(self, exchange: Exchange, /) -> None:
        """Write the line in a single call."""
        if exchange.route in PROBES:
            return
        left_out = 0
        if exchange.key_id is None:
            sampled = self._sampled()
            if sampled is None:
                return
            left_out = sampled
        line = AccessLine(
            method=exchange.method,
            route=exchange.route,
            status=exchange.status,
            duration_s=round(exchange.duration_s, 6),
            bytes_in=exchange.bytes_in,
            bytes_out=exchange.bytes_out,
            key_id=exchange.key_id,
            session_id=None if exchange.session_id is None else str(exchange.session_id),
            request_id=exchange.request_id,
            left_out=left_out,
            is_broken_off=not exchange.is_whole,
            event="request",
            level="info",
            logger=__name__,
            timestamp=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )
        sys.stderr.write(self._encoder.encode(line).decode() + "\n")

    def _sampled(self) -> int | None:
        """Return how many lines were left out before this one; None to leave this one out, too."""
        with self._lock:
            now_s = time.monotonic()
            if now_s < self._next_stranger_s:
                self._n_left_out += 1
                return None
            # After a pause, a second's worth of lines may follow each other at once.
            self._next_stranger_s = max(self._next_stranger_s, now_s - 1.0) + 1.0 / STRANGERS_PER_S
            n_left_out, self._n_left_out = self._n_left_out, 0
            return n_left_out
