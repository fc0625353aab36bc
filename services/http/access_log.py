"""The access log: one ``request`` line per exchange on standard error.

The lines have the same form as all others, but bypass the logging library: it takes 19
microseconds per line, and this takes two. A line contains the route's template, never the path or
the query, which may contain private data, and no header except the request ID.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import msgspec

from services.http.exchange import PROBES, Exchange


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

    def begun(self, exchange: Exchange, /) -> None:
        """Do nothing: a line needs the finished exchange."""

    def ended(self, exchange: Exchange, /) -> None:
        """Write the line in a single call."""
        if exchange.route in PROBES:
            return
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
            is_broken_off=not exchange.is_whole,
            event="request",
            level="info",
            logger=__name__,
            timestamp=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        )
        sys.stderr.write(self._encoder.encode(line).decode() + "\n")
