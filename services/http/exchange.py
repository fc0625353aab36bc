"""One request and its answer, and those who are told of it: records, access log and figures.

The application is called by the server, and what it returns is read by the server. So both ends
are seen here: bytes are counted as they pass, and an exchange has ended when its answer was handed
over whole, or was broken off. All of this is paid by every request: it costs a few microseconds,
and so may a listener.
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

#: The route of a request that no route fits: what a stranger types is neither kept nor counted by
#: its name.
UNKNOWN_ROUTE = "(unknown)"
#: The same for methods.
OTHER_METHOD = "(other)"
METHODS = frozenset(falcon.HTTP_METHODS)
#: Asked by machines every few seconds; neither recorded nor logged.
PROBES = frozenset(("/health/live", "/health/ready", "/metrics"))

_ENV_KEY = "clamor.exchange"
_SESSION_PATH = "/v1/sessions/"


class Exchange:
    """What is known of one request and its answer; whole when it has ended."""

    __slots__ = (
        "began_s",
        "bytes_in",
        "bytes_out",
        "duration_s",
        "is_whole",
        "key_id",
        "method",
        "received_at_s",
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
        #: Of the bodies, without headers. What the application did not read is not counted.
        self.bytes_in = 0
        self.bytes_out = 0
        #: Whether the answer was handed over to its end.
        self.is_whole = True
        self.request_id = ""
        #: Whose key was shown, once it is known to be one.
        self.key_id: str | None = None
        self.user_id: uuid.UUID | None = None
        #: The session that the path names, or that the answer does (``Location``).
        self.session_id: uuid.UUID | None = None
        #: Unix time, and this process's own clock.
        self.received_at_s = time.time()
        self.began_s = time.perf_counter()
        self.duration_s = 0.0

    def answer(self, status: str, headers: Iterable[tuple[str, str]]) -> None:
        """Note the head of the answer."""
        self.status = int(status[:3])
        if self.session_id is None and self.method == "POST" and self.status < 400:
            self.session_id = _named_by(headers)


def _named_by(headers: Iterable[tuple[str, str]]) -> uuid.UUID | None:
    """The session that the ``Location`` of an answer names."""
    for name, value in headers:
        if name.lower() == "location" and value.startswith(_SESSION_PATH):
            try:
                return uuid.UUID(value.removeprefix(_SESSION_PATH).partition("/")[0])
            except ValueError:
                return None
    return None


class Listener(Protocol):
    """Is told of each exchange, in the thread that answers; it must not wait for anything."""

    def begun(self, exchange: Exchange, /) -> None:
        """A request has come: only its method and its time are known."""

    def ended(self, exchange: Exchange, /) -> None:
        """The answer was handed over, or broken off."""


class App(falcon.App[falcon.Request, falcon.Response]):
    """The application, which tells its listeners of each exchange."""

    def __init__(self, *, middleware: Sequence[Any], listeners: Sequence[Listener]) -> None:
        super().__init__(middleware=[_Routed(), *middleware])
        self._listeners = tuple(listeners)

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request, as WSGI has it."""
        exchange = env[_ENV_KEY] = Exchange(env["REQUEST_METHOD"])
        env["wsgi.input"] = _Received(env["wsgi.input"], exchange)
        for listener in self._listeners:
            listener.begun(exchange)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            exchange.answer(status, headers)
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
        exchange.duration_s = time.perf_counter() - exchange.began_s
        for listener in self._listeners:
            try:
                listener.ended(exchange)
            except Exception as error:
                # Whoever is told of an answer cannot be allowed to spoil it.
                log.error("listener_failed", exc_info=error)


def of(req: falcon.Request) -> Exchange:
    """The exchange that a request is part of."""
    exchange: Exchange = req.env[_ENV_KEY]
    return exchange


class _Routed:
    """Middleware: notes what the router found."""

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, params: dict[str, Any]
    ) -> None:
        exchange = of(req)
        exchange.route = _plain(req.uri_template or UNKNOWN_ROUTE)
        exchange.session_id = params.get("session_id")


@functools.cache
def _plain(template: str) -> str:
    """A route's template without what it says of the kinds of its fields."""
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
    """The pieces of an answer, counted as the server takes them. No generator: the server closes
    what it has not begun to read, too, and that ends the exchange as well.
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
        """Called by the server at the end, whatever the end is."""
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
