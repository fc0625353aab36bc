"""The HTTP server around the application."""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import secrets
import socket

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from db.settings import Settings

#: Seconds that running requests get to finish before the process is killed: an upload of a minute
#: ends. The grace period of a pod has to be longer (deploy/kubernetes/base/api.yaml).
DRAIN_S = 65
#: Milliseconds for a request's line and headers, also those of the next request of a connection.
HEAD_MS = 30_000
#: Bytes of a connection's buffer, and so of a request's line and headers.
BUFFER_BYTES = 64 * 1024
#: Connections that wait to be accepted.
BACKLOG = 4_096
#: Descriptors of a process besides its connections: files, and connections to its stores.
OTHER_DESCRIPTORS = 1_024

#: The range of `free_ports`: below the system's ephemeral ports, which any outgoing connection
#: could take before the server listens.
_LISTENING = range(20_000, 32_768)


def serve(factory: str, settings: Settings, *, host: str, port: int, processes: int) -> None:
    """Serve the application that ``factory`` ("module:function") returns, until a signal arrives.

    Uploads, downloads and event streams get threads in addition to those of other requests.
    """
    # Imported here: commands that only need a port start sooner.
    from services.app import SERVER_THREADS

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
        blocking_threads=SERVER_THREADS
        + settings.uploads
        + settings.downloads
        + settings.event_streams,
        # One request at a time on a connection, so that its bytes show how that request proceeds.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEAD_MS, max_buffer_size=BUFFER_BYTES),
        backlog=BACKLOG,
        # The connection guard closes connections beyond their limit; this many may arrive between
        # two of its looks. At this bound the server would accept no more.
        backpressure=_descriptors(2 * settings.connections),
        workers_kill_timeout=DRAIN_S,
        respawn_failed_workers=True,
        log_level=LogLevels.error,
        # Its lines go to the handlers of the process, as those of other libraries do.
        log_dictconfig={"loggers": {"_granian": {}}},
    ).serve()


def _descriptors(wanted: int) -> int:
    """Allow this process and its children ``wanted`` connections; return how many they may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - OTHER_DESCRIPTORS, 1)


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
