"""The HTTP server around the application."""

from __future__ import annotations

import contextlib
import multiprocessing
import secrets
import socket

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from services.app import SERVER_THREADS

#: Seconds that running requests get to finish before the process is killed.
DRAIN_S = 25

#: The range of `free_ports`: below the system's ephemeral ports, which any outgoing connection
#: could take before the server listens.
_LISTENING = range(20_000, 32_768)


def serve(factory: str, *, host: str, port: int, processes: int, streams: int) -> None:
    """Serve the application that ``factory`` ("module:function") returns, until a signal arrives.

    The ``streams`` (event streams) per process get threads in addition to those of requests.
    """
    # Spawned rather than forked: servers must not inherit connections and threads, and a spawned
    # process runs its exit handlers, which send pending nudges.
    multiprocessing.set_start_method("spawn", force=True)
    Granian(
        factory,
        factory=True,
        interface=Interfaces.WSGI,
        address=host,
        port=port,
        workers=processes,
        blocking_threads=SERVER_THREADS + streams,
        workers_kill_timeout=DRAIN_S,
        respawn_failed_workers=True,
        log_level=LogLevels.error,
    ).serve()


def free_port() -> int:
    """Return a port that is free at the moment."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different ports that are free at the moment."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            port = secrets.choice(_LISTENING)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found
