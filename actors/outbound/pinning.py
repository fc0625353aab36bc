"""Connections to checked addresses, with a time limit on every operation."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, TypeVar

import httpcore

from actors.outbound.addresses import Address
from actors.outbound.errors import BrokenOff, TookTooLong, Unreachable

T = TypeVar("T")

#: Bytes per write. The time limit is checked after each, to notice a server that reads slowly.
WRITE_BYTES = 16 * 1024
#: How long a server may be slower than `ExchangeLimits.least_bytes_s`.
PATIENT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ExchangeLimits:
    """The limits of one exchange, redirects included."""

    total_s: float
    most_bytes: int
    #: The longest silence.
    silence_s: float = 10.0
    #: The least average rate of a server, once it has been waited for longer than `PATIENT_S`.
    least_bytes_s: float = 0.0


class Clock:
    """The remaining time of an exchange."""

    def __init__(self, limits: ExchangeLimits) -> None:
        self.limits = limits
        self._ends_at = time.monotonic() + limits.total_s
        self._is_last_wait = False
        self._waited_s = 0.0
        self._n_bytes = 0

    def read(self, stream: httpcore.NetworkStream, most_bytes: int) -> bytes:
        """Read from a stream; raise :class:`TookTooLong` at a time limit or if it is too slow."""
        patience_s = self.patience_s()
        # Only waiting counts: a slow reader is not the server's fault.
        began_at = time.monotonic()
        data = stream.read(most_bytes, patience_s)
        self._waited_s += time.monotonic() - began_at
        self._n_bytes += len(data)
        wanted = self.limits.least_bytes_s
        if self._waited_s > PATIENT_S and self._n_bytes < wanted * self._waited_s:
            raise TookTooLong(f"the server sent less than {wanted:.0f} bytes a second", whole=True)
        return data

    def patience_s(self) -> float:
        """Return how long the next operation may take; raise :class:`TookTooLong` at the end."""
        left_s = self._ends_at - time.monotonic()
        self._is_last_wait = left_s <= self.limits.silence_s
        if left_s <= 0:
            raise self.too_long()
        return min(left_s, self.limits.silence_s)

    def too_long(self) -> TookTooLong:
        """Return the error of an operation that used up its time."""
        if self._is_last_wait:
            return TookTooLong(f"it took longer than {self.limits.total_s:g} s", whole=True)
        return TookTooLong(f"the server was silent for {self.limits.silence_s:g} s", whole=False)


class Pinned(httpcore.SyncBackend):
    """Connects only to addresses that have been checked, never by name."""

    def __init__(self, look_up: Callable[[str, int], Sequence[Address]], clock: Clock) -> None:
        self._look_up = look_up
        self._clock = clock

    def connect_tcp(
        self, host: str, port: int, *_timeout: object, **options: Any
    ) -> httpcore.NetworkStream:
        found = _within(self._clock, lambda: self._look_up(host, port))
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in found:
            try:
                stream = super().connect_tcp(
                    str(address),
                    port,
                    timeout=self._clock.patience_s(),
                    socket_options=options.get("socket_options"),
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
                continue
            return _Timed(stream, self._clock)
        assert failed is not None
        raise failed


class _Timed(httpcore.NetworkStream):
    """A stream whose operations end with the time of the exchange at the latest."""

    def __init__(self, stream: httpcore.NetworkStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._clock.read(self._stream, max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITE_BYTES):
            piece = buffer[start : start + WRITE_BYTES]
            self._stream.write(piece, self._clock.patience_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        patience_s = self._clock.patience_s()
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, patience_s), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


@contextmanager
def told(clock: Clock) -> Iterator[None]:
    """Translate exceptions of httpcore into those of this package."""
    try:
        yield
    except httpcore.TimeoutException:
        raise clock.too_long() from None
    except httpcore.ConnectError as error:
        # The cause is from the system or OpenSSL; neither names the host.
        what = (
            "its certificate is not valid"
            if "CERTIFICATE_VERIFY" in str(error)
            else "it cannot be connected to"
        )
        raise Unreachable(what) from None
    except httpcore.ProtocolError:
        raise BrokenOff("the server sent an invalid or incomplete HTTP response") from None
    except httpcore.NetworkError:
        raise BrokenOff("the connection broke off") from None


def _within(clock: Clock, ask: Callable[[], T]) -> T:
    """Call something without a timeout, such as the system's resolver, in a separate thread."""
    answers: queue.SimpleQueue[T | BaseException] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask())
        except BaseException as error:
            answers.put(error)

    threading.Thread(target=run, name="resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=clock.patience_s())
    except queue.Empty:
        raise clock.too_long() from None
    if isinstance(answer, BaseException):
        raise answer
    return answer
