"""Deadlines and limits of the server's connections, enforced from what the kernel knows of them.

The HTTP server reads a body, and sends an answer, for as long as its peer takes; a connection that
says nothing costs it a file descriptor. A thread of this module looks at the connections of its
process once a second. The kernel counts the bytes of each (``TCP_INFO``), so requests pay nothing,
and a connection is judged by what has passed over the wire, whatever the server has buffered. One
that breaks a rule is shut down; the server then ends its request as if the peer had hung up.

Linux only: other systems do not list the connections of a process in ``/proc``.
"""

from __future__ import annotations

import fcntl
import functools
import ipaddress
import os
import socket
import stat
import struct
import sys
import termios
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

#: Seconds between two looks, or so many times as long as a look takes: 40 ms for a thousand
#: connections.
LOOK_S = 1.0
LOOKS_SHARE = 10
#: Seconds until the first byte of a new connection.
FIRST_BYTE_S = 10.0
#: Seconds without a byte in either direction, which is also the longest silence of the server
#: itself: every statement, and every call of a store, ends earlier.
IDLE_S = 60.0
#: Bytes per second of a body that arrives, and of an answer that waits to be read; a mean over
#: `WINDOW_S`. Twice a telephone modem's: slower peers exist, but hold a place for hours.
SLOWEST_BYTES_PER_S = 1_024
#: Seconds over which rates are taken: a mobile connection may stall for shorter.
WINDOW_S = 20.0

_DESCRIPTORS = "/proc/self/fd"
#: From ``struct tcp_info``: ``tcpi_bytes_acked`` and ``tcpi_bytes_received``.
_COUNTS = struct.Struct("=120xQQ")
_INT = struct.Struct("=i")
#: From linux/sockios.h: the bytes that the peer has not acknowledged. Those that this process has
#: not read are ``FIONREAD``.
_SIOCOUTQ = 0x5411


@dataclass(frozen=True)
class Reading:
    """What the kernel counts of a connection."""

    #: Identifies the connection for as long as it is open.
    inode: int
    #: The peer: an IPv4 address, or the /64 network of an IPv6 address, which one host has.
    address: str
    #: Bytes from the peer, and bytes that it has acknowledged.
    n_received: int
    n_acked: int
    #: Bytes that it has not acknowledged, and bytes from it that the server has not read.
    n_unsent: int
    n_unread: int


class _Record:
    """One connection since the guard first saw it."""

    __slots__ = ("arriving", "arriving_s", "moved_s", "reading", "since_s", "waiting", "waiting_s")

    def __init__(self, reading: Reading, now_s: float) -> None:
        self.reading = reading
        #: When it was first seen, and when a byte last passed.
        self.since_s = self.moved_s = now_s
        #: The reading from which the rate of a body is taken: after the first bytes of a request.
        self.arriving, self.arriving_s = reading, now_s
        #: The reading from which the rate of an answer is taken: when it began to wait.
        self.waiting, self.waiting_s = reading, now_s

    def fault(self, reading: Reading, now_s: float) -> str | None:
        """Take a new reading; return which deadline or rate the connection breaks, if any."""
        before, self.reading = self.reading, reading
        has_received = reading.n_received > before.n_received
        has_sent = reading.n_acked > before.n_acked
        if has_received or has_sent:
            self.moved_s = now_s
        if reading.n_received == 0 and now_s - self.since_s > FIRST_BYTE_S:
            return "first_byte"
        if now_s - self.moved_s > IDLE_S:
            return "idle"
        if not reading.n_unsent:
            self.waiting, self.waiting_s = reading, now_s
        elif now_s - self.waiting_s >= WINDOW_S:
            n_bytes, length_s = reading.n_acked - self.waiting.n_acked, now_s - self.waiting_s
            if n_bytes < SLOWEST_BYTES_PER_S * length_s:
                return "slow_answer"
            self.waiting, self.waiting_s = reading, now_s
        # Bytes that arrive while nothing is answered, and that the server reads, are of a body. A
        # rate is taken when some arrive: a request that is being served has none to come.
        if has_sent or reading.n_unread or self.arriving.n_received == 0:
            self.arriving, self.arriving_s = reading, now_s
        elif has_received and reading.n_acked == self.arriving.n_acked:
            n_bytes = reading.n_received - self.arriving.n_received
            length_s = now_s - self.arriving_s
            if length_s >= WINDOW_S:
                if n_bytes < SLOWEST_BYTES_PER_S * length_s:
                    return "slow_body"
                self.arriving, self.arriving_s = reading, now_s
        return None


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The most connections of one process, and of one address with it."""

    total: int
    per_address: int


class Rules:
    """Decide which connections to end. Pure: readings and the time in, inodes and reasons out."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._records: dict[int, _Record] = {}

    def judge(self, readings: Iterable[Reading], now_s: float) -> dict[int, str]:
        """Return the reason for each connection that must end."""
        records, ended = {}, {}
        for reading in readings:
            record = self._records.get(reading.inode)
            if record is None:
                record = _Record(reading, now_s)
            elif reason := record.fault(reading, now_s):
                ended[reading.inode] = reason
            records[reading.inode] = record
        self._records = records
        return ended | self._beyond_limits({i: r for i, r in records.items() if i not in ended})

    def _beyond_limits(self, left: dict[int, _Record]) -> dict[int, str]:
        """Return the connections beyond a limit: those that have been silent for longest.

        A caller with a request does not suffer from the silent connections beside its own, even
        from the same address, which may be that of a proxy.
        """
        by_address = defaultdict(list)
        for inode, record in left.items():
            by_address[record.reading.address].append((record.moved_s, inode))
        ended = {}
        for connections in by_address.values():
            for _, inode in _surplus(connections, self._limits.per_address):
                ended[inode] = "address_limit"
        rest = [(record.moved_s, inode) for inode, record in left.items() if inode not in ended]
        for _, inode in _surplus(rest, self._limits.total):
            ended[inode] = "limit"
        return ended


def _surplus(connections: list[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    n_surplus = len(connections) - most
    return sorted(connections)[:n_surplus] if n_surplus > 0 else []


class ConnectionGuard(Collector):
    """Applies the rules to the connections of this process, in a thread; also their metrics."""

    def __init__(
        self, limits: ConnectionLimits, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules = Rules(limits)
        self._clock = clock
        self._n_open = 0
        self._ended: Counter[str] = Counter()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)

    def start(self) -> None:
        """Start looking, until :meth:`close`; does nothing on systems other than Linux."""
        if sys.platform == "linux":
            self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closing.set()

    def look(self) -> None:
        """Look at all connections once, and end those that break a rule."""
        found = dict(_accepted())
        ended = self._rules.judge(found, self._clock())
        by_inode = {reading.inode: descriptor for reading, descriptor in found.items()}
        for inode, reason in ended.items():
            self._ended[reason] += 1
            _shut_down(by_inode[inode], inode)
        self._n_open = len(found) - len(ended)
        if ended:
            log.info("connections_ended", **Counter(ended.values()))

    def describe(self) -> list[Metric]:
        """Return no descriptions, so registration does not trigger a scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Collect the number of open connections, and of ended ones by reason."""
        process = str(os.getpid())
        open_now = GaugeMetricFamily(
            "clamor_http_connections", "Open connections", labels=["process"]
        )
        open_now.add_metric([process], self._n_open)
        yield open_now
        ended = CounterMetricFamily(
            "clamor_http_connections_ended",
            "Connections that broke a deadline or a limit",
            labels=["reason", "process"],
        )
        for reason, count in list(self._ended.items()):
            ended.add_metric([reason, process], count)
        yield ended

    def _run(self) -> None:
        pause_s = LOOK_S
        while not self._closing.wait(pause_s):
            began_s = time.monotonic()
            try:
                self.look()
            except Exception as error:
                log.warning("connections_not_checked", error=type(error).__name__)
            pause_s = max(LOOK_S, LOOKS_SHARE * (time.monotonic() - began_s))


def _accepted() -> Iterator[tuple[Reading, int]]:
    """Yield the connections that this process has accepted, with their descriptors."""
    ports: set[int] = set()
    found: list[tuple[int, Reading, int]] = []
    for descriptor in map(int, os.listdir(_DESCRIPTORS)):
        # A connection may have been reset.
        with _socket(descriptor) as each, suppress(OSError):
            if each is None:
                continue
            port = each.getsockname()[1]
            if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                ports.add(port)
            else:
                found.append((port, _reading(each), descriptor))
    return ((reading, descriptor) for port, reading, descriptor in found if port in ports)


@contextmanager
def _socket(descriptor: int) -> Iterator[socket.socket | None]:
    """Yield a duplicate of a TCP socket of this process; None if the descriptor is none.

    While the duplicate is open, its connection cannot become another one.
    """
    try:
        duplicate = os.dup(descriptor)
    except OSError:
        # Closed since it was listed.
        yield None
        return
    if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
        os.close(duplicate)
        yield None
        return
    with socket.socket(fileno=duplicate) as each:
        is_tcp = each.family in (socket.AF_INET, socket.AF_INET6)
        yield each if is_tcp and each.type == socket.SOCK_STREAM else None


def _shut_down(descriptor: int, inode: int) -> None:
    """End a connection, unless its descriptor has become another one."""
    with _socket(descriptor) as each, suppress(OSError):
        if each is not None and os.fstat(each.fileno()).st_ino == inode:
            each.shutdown(socket.SHUT_RDWR)


def _reading(each: socket.socket) -> Reading:
    """Read the counters of a connection; raises OSError if the peer has left."""
    info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _COUNTS.size)
    n_acked, n_received = _COUNTS.unpack(info)
    return Reading(
        inode=os.fstat(each.fileno()).st_ino,
        address=_host(each.getpeername()[0]),
        n_received=n_received,
        n_acked=n_acked,
        n_unsent=_queued(each, _SIOCOUTQ),
        n_unread=_queued(each, termios.FIONREAD),
    )


def _queued(each: socket.socket, request: int) -> int:
    (n_bytes,) = _INT.unpack(fcntl.ioctl(each, request, bytes(_INT.size)))
    return int(n_bytes)


@functools.lru_cache(4_096)
def _host(address: str) -> str:
    """Return what limits count as one address: an IPv6 network of 64 bits belongs to one host."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))
