"""A small web server whose pages a test defines, and names that lead to it."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

from tests.support import programs, servers

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Request(BaseHTTPRequestHandler):
    """One request; a page answers it through the methods here, or writes to ``wfile`` itself."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    web: Web

    def answer(self, content: bytes = b"", *, status: int = 200, **headers: str) -> None:
        """Send a well-formed response."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def raw(self, *pieces: bytes) -> None:
        """Send exactly these bytes."""
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    def do_GET(self) -> None:
        self.web.asked.append(f"{self.command} {self.headers['Host']}{self.path}")
        self.web.heads.append(dict(self.headers.items()))
        self.web.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        page = self.web.pages.get(self.path.partition("?")[0])
        try:
            page(self) if page else self.answer(status=404)
        except (BrokenPipeError, ConnectionResetError):
            # The client has closed the connection.
            self.close_connection = True

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_told: object) -> None:
        """Do not log."""


class Web:
    """The pages of a server on 127.0.0.1, and the requests to it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.pages: dict[str, Callable[[Request], object]] = {}
        self.asked: list[str] = []
        self.heads: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        #: Set at the end, to release a page that waits.
        self.ends = threading.Event()

    def url(self, path: str, *, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Return the URL of a page."""
        return f"{scheme}://{host}:{self.port}{path}"


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Web]:
    """Run a server for a test; with a certificate file that includes the key it uses TLS."""

    class Handler(Request):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    web = Handler.web = Web(server.server_address[1])
    # A short poll, since the end of every test waits for the next one.
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    try:
        yield web
    finally:
        web.ends.set()
        server.shutdown()
        thread.join()
        server.server_close()


def certificate(folder: Path, name: str) -> Path:
    """Return a file with a new self-signed certificate for a name, and its key."""
    for package in programs.missing(["openssl"]):
        servers.unavailable(programs.remedy(package))
    both = folder / f"{name}.pem"
    key, signed = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
            "-addext",
            f"subjectAltName=DNS:{name}",
            "-keyout",
            str(key),
            "-out",
            str(signed),
        ],
        check=True,
        capture_output=True,
    )
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both


class Names:
    """A resolver: names, and their addresses for the first query, the second, and so on."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self._answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self._answers:
            return [host]
        given = self._answers[host]
        return given.pop(0) if len(given) > 1 else given[0]
