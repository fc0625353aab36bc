"""A server in front of another one that speaks TLS, with a certificate of the test's own."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: The request by which a client of Postgres asks for TLS, before anything else.
SSL_REQUEST = struct.pack("!ii", 8, 80_877_103)
READ_BYTES = 64 * 1024


@contextmanager
def tls_proxy(certificate: Path, server: tuple[str, int], *, is_postgres: bool) -> Iterator[int]:
    """Accept TLS and forward what it contains; yield the port on localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(client: socket.socket) -> None:
        # A client that refuses the certificate, or does not ask for TLS, is closed.
        with suppress(OSError), client:
            if is_postgres:
                if client.recv(len(SSL_REQUEST), socket.MSG_WAITALL) != SSL_REQUEST:
                    return
                client.sendall(b"S")
            with (
                context.wrap_socket(client, server_side=True) as encrypted,
                socket.create_connection(server) as plain,
            ):
                back = threading.Thread(target=_forward, args=(plain, encrypted), daemon=True)
                back.start()
                _forward(encrypted, plain)
                back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, name="tls-proxy", daemon=True).start()
        yield listener.getsockname()[1]


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(READ_BYTES):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
