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

#: Requests that are under way get this long to end before the process is killed.
DRAIN_S = 25

#: Where `free_ports` looks: below the ports that a system gives to outgoing connections. One of
#: those could be taken by any connection before the server that it was found for listens.
_LISTENING = range(20_000, 32_768)


def serve(factory: str, *, host: str, port: int, processes: int, streams: int) -> None:
    """Serve the application that ``factory`` ("module:function") makes, until a signal comes.

    ``streams`` of events that a process allows have threads of their own beside the requests'.
    """
    # Not forked: connections and threads of this process must not live on in the servers, and a
    # spawned process runs its exit handlers, which send the nudges that still wait.
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
    """A port that nobody listens on just now."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on just now."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            probe = held.enter_context(socket.socket())
            port = secrets.choice(_LISTENING)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                found.append(port)
    return found
