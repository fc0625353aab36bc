"""HTTP requests as bytes, sent as they are, and their responses."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

#: Maximum response time; the machine may be busy.
ANSWER_S = 30.0


@dataclass
class Request:
    """A request to be sent."""

    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""
    #: Whether to send a correct Content-Length; otherwise the headers are sent as they are.
    is_measured: bool = True
    #: Whether the client disconnects before sending all that it declared.
    is_cut: bool = False

    def wire(self) -> bytes:
        """Return the bytes to send."""
        target = self.path + (f"?{self.query}" if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1".encode("latin-1", "replace")]
        lines += [name.encode() + b": " + value for name, value in self.headers]
        if self.is_measured and (self.body or self.method in ("POST", "PUT", "PATCH")):
            lines.append(b"Content-Length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Answer:
    """A response; status 0 if the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes


def send(port: int, made: Request) -> Answer:
    """Send a request, and read the response."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as wire:
        # A server may close the connection before it has read everything.
        with suppress(OSError):
            wire.sendall(made.wire())
            if made.is_cut:
                wire.shutdown(socket.SHUT_WR)
        return _answer(wire, is_head=made.method == "HEAD")


def _answer(wire: socket.socket, *, is_head: bool) -> Answer:
    began, data = time.monotonic(), b""
    with suppress(ConnectionResetError):
        while time.monotonic() - began < ANSWER_S:
            # A server that waits for the body announces this first.
            data = data.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            head, is_whole, body = data.partition(b"\r\n\r\n")
            # An event stream does not end: the data after its head is enough.
            if is_whole and (is_head or b"text/event-stream" in head or len(body) >= _length(head)):
                break
            piece = wire.recv(65_536)
            if not piece:
                break
            data += piece
        else:
            raise TimeoutError(f"no answer within {ANSWER_S} s: {data[:500]!r}")
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    return Answer(int(lines[0].split()[1]) if data else 0, headers, body)


def _length(head: bytes) -> float:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return float("inf")
