"""A wire to Postgres that can be cut, and that can lose an answer: what a network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

from psycopg import conninfo

READ_BYTES = 64 * 1024


class Wire:
    """Passes on what a client and the server say to each other, as long as it is whole."""

    def __init__(self, server_url: str) -> None:
        self._server = conninfo.conninfo_to_dict(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._is_cut = False
        #: What must still be said, in this order, until an answer is lost.
        self._awaited: list[bytes] = []
        #: Set when that has happened.
        self.lost = threading.Event()
        parts = urlsplit(server_url)
        host, port = self._listener.getsockname()
        user = f"{parts.username}:{parts.password or ''}@" if parts.username else ""
        # In the clear, so that the wire can read along.
        self.url = parts._replace(
            netloc=f"{user}{host}:{port}", query="sslmode=disable&gssencmode=disable"
        ).geturl()
        assert set(parse_qs(parts.query)) <= {"host"}
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def cut(self) -> None:
        """End every connection, and take no new one."""
        with self._lock:
            self._is_cut = True
            for pair in self._connections:
                _close(*pair)
            self._connections.clear()

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def lose_commit(self, *, after: str = "") -> None:
        """Let the server carry out the next commit, and lose its answer; the next one that follows
        a statement which holds ``after``.
        """
        self._awaited = [after.encode(), b"COMMIT"]
        self.lost.clear()

    def close(self) -> None:
        """End."""
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
        """Pass on one direction. ``doomed`` says of the connection that its next answer is lost."""
        with suppress(OSError):
            while data := source.recv(READ_BYTES):
                if not is_client and doomed.is_set():
                    # It has been carried out: the server answers after that.
                    self.lost.set()
                    break
                if is_client and self._hears_last(data):
                    doomed.set()
                target.sendall(data)
        _close(source, target)

    def _hears_last(self, data: bytes) -> bool:
        """Whether all that was awaited has now been said."""
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
def wire(server_url: str) -> Iterator[Wire]:
    """A wire to a server, for this test alone."""
    made = Wire(server_url)
    try:
        yield made
    finally:
        made.close()
