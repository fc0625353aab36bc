"""One request with its response, and the listeners for it: request log, access log, metrics.

The server calls the application and reads its response, so this module sees both ends: it counts
bytes as they pass, and an exchange ends when its response was handed over completely or was broken
off. Every request pays for this: it costs a few microseconds, and a listener may cost as much.
"""

from __future__ import annotations

import functools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import falcon
import structlog

log = structlog.get_logger(__name__)

#: The route of a request that matches none. Arbitrary paths are neither stored nor used as labels.
UNKNOWN_ROUTE = "(unknown)"
#: The same for methods.
OTHER_METHOD = "(other)"
METHODS = frozenset(falcon.HTTP_METHODS)
#: Polled by machines every few seconds; in neither log.
PROBES = frozenset(("/health/live", "/health/ready", "/metrics"))

_ENV_KEY = "clamor.exchange"
_SESSION_PATH = "/v1/sessions/"


class Exchange:
    """The facts of one request and its response; complete once it has ended."""

    __slots__ = (
        "began_s",
        "bytes_in",
        "bytes_out",
        "duration_s",
        "is_whole",
        "key_id",
        "method",
        "place",
        "request_id",
        "route",
        "session_id",
        "status",
        "user_id",
    )

    def __init__(self, method: str) -> None:
        self.method = method if method in METHODS else OTHER_METHOD
        #: The template, such as ``/v1/sessions/{session_id}``.
        self.route = UNKNOWN_ROUTE
        self.status = 500
        #: Sizes of the bodies without headers. Unread bytes are not counted.
        self.bytes_in = 0
        self.bytes_out = 0
        #: Whether the response was handed over completely.
        self.is_whole = True
        self.request_id = ""
        #: The key and its user, once the key is verified.
        self.key_id: str | None = None
        self.user_id: uuid.UUID | None = None
        #: The session that the path or the response (``Location``) names.
        self.session_id: uuid.UUID | None = None
        #: The place that the exchange holds until it ends (`services.http.places`).
        self.place: Closeable | None = None
        #: By the process's monotonic clock.
        self.began_s = time.perf_counter()
        self.duration_s = 0.0

    def answer(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """Record the status and headers of the response."""
        self.status = int(status[:3])
        if self.session_id is None and self.method == "POST" and self.status < 400:
            self.session_id = _named_by(headers)


def _named_by(headers: Iterable[tuple[str, str]]) -> uuid.UUID | None:
    """Return the session that the ``Location`` header names."""
    for name, value in headers:
        if name.lower() == "location" and value.startswith(_SESSION_PATH):
            try:
                return uuid.UUID(value.removeprefix(_SESSION_PATH).partition("/")[0])
            except ValueError:
                return None
    return None


class Closeable(Protocol):
    """Something to close when an exchange ends."""

    def close(self) -> None:
        """Close it; calling it again has no effect."""


class Listener(Protocol):
    """Called for each exchange, in the thread that answers; it must not block."""

    def begun(self, exchange: Exchange, /) -> None:
        """Handle the arrival of a request; only its method and time are known."""

    def ended(self, exchange: Exchange, /) -> None:
        """Handle the end of a response, complete or broken off."""


class App(falcon.App[falcon.Request, falcon.Response]):
    """The application, which calls its listeners for each exchange.

    ``ends_unread``: whether answers to requests whose body was not read say ``Connection: close``.
    WSGI forbids this header to applications: it is for a server that lets it pass, and that closes
    such connections anyway. Without the header a client may send its next request meanwhile.
    """

    def __init__(
        self, *, middleware: Sequence[Any], listeners: Sequence[Listener], ends_unread: bool = False
    ) -> None:
        super().__init__(middleware=[_Routed(), *middleware])
        self._listeners = tuple(listeners)
        self._ends_unread = ends_unread

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one WSGI request."""
        exchange = env[_ENV_KEY] = Exchange(env["REQUEST_METHOD"])
        env["wsgi.input"] = _Received(env["wsgi.input"], exchange)
        for listener in self._listeners:
            listener.begun(exchange)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            exchange.answer(status, headers)
            if self._ends_unread and exchange.bytes_in < int(env.get("CONTENT_LENGTH") or 0):
                headers = [*headers, ("Connection", "close")]
            return start_response(status, headers, *rest)

        try:
            body = super().__call__(env, start)
        except BaseException:
            exchange.is_whole = False
            self._end(exchange)
            raise
        if isinstance(body, list):
            exchange.bytes_out = sum(map(len, body))
            self._end(exchange)
            return body
        return _Sent(body, exchange, self._end)

    def _end(self, exchange: Exchange) -> None:
        if exchange.place is not None:
            exchange.place.close()
        exchange.duration_s = time.perf_counter() - exchange.began_s
        for listener in self._listeners:
            try:
                listener.ended(exchange)
            except Exception as error:
                # A failing listener must not break the response.
                log.error("listener_failed", exc_info=error)


def of(req: falcon.Request) -> Exchange:
    """Return the exchange of a request."""
    exchange: Exchange = req.env[_ENV_KEY]
    return exchange


class _Routed:
    """Middleware that records the route."""

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, params: dict[str, Any]
    ) -> None:
        exchange = of(req)
        exchange.route = _plain(req.uri_template or UNKNOWN_ROUTE)
        exchange.session_id = params.get("session_id")


@functools.cache
def _plain(template: str) -> str:
    """Return the template of a route without the converters of its fields."""
    return re.sub(r":\w+(\(.*?\))?}", "}", template)


class _Received:
    """A request's body, counted as it is read."""

    __slots__ = ("_body", "_exchange")

    def __init__(self, body: Any, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange

    def read(self, *size: int) -> bytes:
        return self._count(self._body.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._count(self._body.readline(*size))

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._count(line) for line in self._body.readlines(*hint)]

    def __iter__(self) -> Iterator[bytes]:
        return map(self._count, self._body)

    def _count(self, piece: bytes) -> bytes:
        self._exchange.bytes_in += len(piece)
        return piece


class _Sent(Iterator[bytes]):
    """The pieces of a response, counted as the server reads them. This is not a generator: the
    server may close it before the first read, and that must end the exchange as well.
    """

    __slots__ = ("_body", "_end", "_exchange", "_pieces")

    def __init__(
        self, body: Iterable[bytes], exchange: Exchange, end: Callable[[Exchange], None]
    ) -> None:
        self._body = body
        self._pieces = iter(body)
        self._exchange = exchange
        self._end: Callable[[Exchange], None] | None = end

    def __next__(self) -> bytes:
        try:
            piece = next(self._pieces)
        except StopIteration:
            self._finish(is_whole=True)
            raise
        except BaseException:
            self._finish(is_whole=False)
            raise
        self._exchange.bytes_out += len(piece)
        return piece

    def close(self) -> None:
        """End the exchange; the server calls this in every case."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._finish(is_whole=False)

    def _finish(self, *, is_whole: bool) -> None:
        end, self._end = self._end, None
        if end is not None:
            self._exchange.is_whole = is_whole
            end(self._exchange)
