"""A proxy to Postgres that cuts connections, drops a response or all data, as a network may."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from psycopg import conninfo

READ_BYTES = 64 * 1024


class PostgresProxy:
    """Forwards data between client and server until it is cut."""

    def __init__(self, server_url: str) -> None:
        self._server = conninfo.conninfo_to_dict(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        #: Texts that must still be sent, in order, before a response is dropped.
        self._awaited: list[bytes] = []
        #: Set when that has happened.
        self.lost = threading.Event()
        parts = urlsplit(server_url)
        host, port = self._listener.getsockname()
        user = f"{parts.username}:{parts.password or ''}@" if parts.username else ""
        # Without encryption, so that the proxy can read the traffic.
        self.url = parts._replace(
            netloc=f"{user}{host}:{port}", query="sslmode=disable&gssencmode=disable"
        ).geturl()
        assert set(parse_qs(parts.query)) <= {"host"}
        threading.Thread(target=self._accept, name="postgres-proxy", daemon=True).start()

    def cut(self) -> None:
        """Close every connection, and accept no new ones."""
        with self._lock:
            self._is_cut = True
            for pair in self._connections:
                _close(*pair)
            self._connections.clear()

    def fall_silent(self) -> None:
        """Accept connections, and forward nothing, as if the server had been stopped."""
        self._flows.clear()

    def mend(self) -> None:
        """Accept connections and forward data again."""
        with self._lock:
            self._is_cut = False
        self._flows.set()

    def lose_commit(self, *, after: str = "") -> None:
        """Drop the response to the next commit after the server has performed it.

        With ``after``, the next commit that follows a statement containing it.
        """
        self._awaited = [after.encode(), b"COMMIT"]
        self.lost.clear()

    def close(self) -> None:
        """Shut down."""
        self._flows.set()
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    client.close()
                    continue
                pair = client, self._connect()
                self._connections.append(pair)
            doomed = threading.Event()
            for source, target, is_client in ((*pair, True), (*pair[::-1], False)):
                threading.Thread(
                    target=self._pass_on, args=(source, target, is_client, doomed), daemon=True
                ).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._server.get("host", "127.0.0.1")), self._server.get("port") or 5432
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((host, int(port)))

    def _pass_on(
        self,
        source: socket.socket,
        target: socket.socket,
        is_client: bool,
        doomed: threading.Event,
    ) -> None:
        """Forward one direction. ``doomed`` marks a connection whose next response is dropped."""
        with suppress(OSError):
            while data := source.recv(READ_BYTES):
                self._flows.wait()
                if not is_client and doomed.is_set():
                    # The commit has been performed: the server responds after that.
                    self.lost.set()
                    break
                if is_client and self._hears_last(data):
                    doomed.set()
                target.sendall(data)
        _close(source, target)

    def _hears_last(self, data: bytes) -> bool:
        """Return whether all expected texts have been sent."""
        was_awaited = bool(self._awaited)
        while self._awaited and self._awaited[0] in data:
            del self._awaited[0]
        return was_awaited and not self._awaited


def _close(*sockets: Any) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


@contextmanager
def postgres_proxy(server_url: str) -> Iterator[PostgresProxy]:
    """Run a proxy to a server, for this test alone."""
    made = PostgresProxy(server_url)
    try:
        yield made
    finally:
        made.close()
