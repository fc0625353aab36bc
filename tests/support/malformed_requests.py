"""Malformed requests, as bytes, generated from a seed, and their responses."""

from __future__ import annotations

import json
import random
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

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
class Route:
    """One operation of the API's description."""

    method: str
    template: str
    #: The example of its JSON body.
    example: object
    #: Its query parameters.
    parameters: tuple[str, ...]


def routes_of(document: dict[str, Any]) -> list[Route]:
    """Return the operations of an OpenAPI document."""
    return [
        Route(
            method.upper(),
            template,
            told.get("requestBody", {})
            .get("content", {})
            .get("application/json", {})
            .get("example"),
            tuple(each["name"] for each in told.get("parameters", ()) if each["in"] == "query"),
        )
        for template, methods in document["paths"].items()
        for method, told in methods.items()
    ]


@dataclass(frozen=True)
class Answer:
    """A response; status 0 if the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes


class MalformedRequests:
    """Generates requests that are malformed in many different ways."""

    def __init__(self, seed: int, *, routes: Sequence[Route], key: str, ids: Sequence[str]) -> None:
        self._rng = random.Random(seed)
        # Endpoints with a body have the most to validate.
        self._routes = [*routes, *[each for each in routes if each.example is not None] * 5]
        self._key = key
        self._ids = ids
        self._route = routes[0]
        self._spoilers: list[Callable[[Request], None]] = [
            self._path,
            self._method,
            self._query,
            self._header,
            self._huge_head,
            self._key_header,
            self._json,
            self._deep,
            self._bytes,
            self._form,
            self._broken_form,
            self._length,
            self._chunks,
            self._cut,
            self._kind,
            self._accept,
        ]

    def request(self) -> Request:
        """Generate the next request."""
        self._route = self._rng.choice(self._routes)
        made = Request(self._route.method, self._filled(self._route.template))
        made.headers = [("Host", b"clamor"), ("Authorization", f"Bearer {self._key}".encode())]
        # Half of the requests for an endpoint are valid except for one fault.
        if self._route.example is not None and self._rng.random() < 0.5:
            self._almost_right(made)
        elif self._route.parameters and self._rng.random() < 0.5:
            self._query(made)
        else:
            for spoil in self._rng.sample(self._spoilers, self._rng.choice([1, 1, 2, 3])):
                spoil(made)
        made.headers.append(("Connection", b"close"))
        return made

    def _filled(self, template: str) -> str:
        parts = []
        for part in template.split("/"):
            ids = [str(uuid.UUID(int=self._rng.getrandbits(128))), *self._ids]
            parts.append(self._rng.choice(ids) if part.startswith("{") else part)
        return "/".join(parts)

    def _path(self, made: Request) -> None:
        odd = self._rng.choice(
            [
                "%00",
                "%ff%fe",
                "..",
                "%2e%2e%2f",
                "//",
                "'",
                "%",
                "%zz",
                "a" * 3_000,
                "{x}",
                "%0d%0a",
                "%F0%9F%94%8A",
                ";x=1",
                "*",
                "%ed%a0%80",
            ]
        )
        parts = made.path.split("/")
        parts[self._rng.randrange(1, len(parts))] = odd
        made.path = "/".join(parts)

    def _method(self, made: Request) -> None:
        made.method = self._rng.choice(
            [
                "PUT",
                "PATCH",
                "DELETE",
                "HEAD",
                "OPTIONS",
                "TRACE",
                "BREW",
                "WEBSOCKET",
                "get",
                "X" * 90,
            ]
        )

    def _query(self, made: Request) -> None:
        names = [
            *self._route.parameters * 5,
            "limit",
            "cursor",
            "x",
            "",
            "%00",
            "state",
            "bands",
            "metadata",
            "calibration_db",
            "batch_id",
            "file_name",
            "sort",
            "model",
            "%ff",
            "recorded_at",
            "priority",
        ]
        values = [
            "",
            "1",
            "-1",
            "9" * 40,
            "nan",
            "1e999",
            "%00",
            "%ff",
            "[]",
            "{}",
            "null",
            "a,b",
            "x" * 2_000,
            "%F0%9F%94%8A",
            "2026-99-99",
            "=&=",
            "%",
            "true",
            "%ed%a0%80",
        ]
        made.query = "&".join(
            f"{self._rng.choice(names)}={self._rng.choice(values)}"
            for _ in range(self._rng.choice([1, 1, 2, 5, 200]))
        )

    def _header(self, made: Request) -> None:
        name = self._rng.choice(
            [
                "Idempotency-Key",
                "X-Request-ID",
                "If-None-Match",
                "Range",
                "If-Modified-Since",
                "Cookie",
                "traceparent",
                "Last-Event-ID",
                "Expect",
                "Content-Encoding",
                "X-\x7f",
                "Accept-Encoding",
                "Upgrade",
                "If-Range",
                "X-Forwarded-For",
                "Forwarded",
                "Date",
            ]
        )
        value = self._rng.choice(
            [
                b"",
                b'"',
                b'"a"',
                b"\xff\xfe",
                b"bytes=-",
                b"bytes=5-1",
                b"bytes=0-,1-",
                b"a" * 5_000,
                b"bytes=99999999999999999999-",
                b'W/"',
                b"*",
                b"gzip",
                b"100-continue",
                b"a\tb",
                b"a=;b",
                b"=?utf-8?q?=00?=",
                b'for="',
                b"websocket",
                b"\x80",
                b'"\\"',
                b"yesterday",
            ]
        )
        made.headers.append((name, value))

    def _huge_head(self, made: Request) -> None:
        if self._rng.random() < 0.5:
            made.headers.append(("X-Huge", b"x" * self._rng.choice([9_000, 70_000, 500_000])))
        else:
            made.headers += [(f"X-{index}", b"x") for index in range(self._rng.choice([90, 400]))]

    def _key_header(self, made: Request) -> None:
        bad = self._rng.choice(
            [
                b"",
                b"Bearer",
                b"Bearer ",
                b"Basic eDp4",
                b"Bearer \xff",
                b"Bearer clamor_",
                b"Bearer clamor_" + b"0" * 16 + b"_" + b"x" * 43,
                b"x" * 9_000,
                b"Bearer a b c",
            ]
        )
        made.headers = [each for each in made.headers if each[0] != "Authorization"]
        made.headers.append(("Authorization", bad))

    def _value(self, depth: int = 0) -> object:
        kinds = [
            "",
            "x",
            "\0",
            "a\0@b",
            "\ud800",
            "é" * 300,
            0,
            -1,
            10**40,
            1e308,
            None,
            True,
            "inbox/",
            "inbox/../x",
            "http://127.0.0.1/",
            "file:///etc/passwd",
            str(uuid.UUID(int=1)),
        ]
        if depth < 3 and self._rng.random() < 0.3:
            return [self._value(depth + 1) for _ in range(self._rng.randrange(4))]
        if depth < 3 and self._rng.random() < 0.2:
            return {str(self._rng.choice(kinds)): self._value(depth + 1) for _ in range(2)}
        return self._rng.choice(kinds)

    def _json(self, made: Request) -> None:
        names = [
            "keys",
            "prefix",
            "email",
            "name",
            "scopes",
            "force",
            "overlap_hours",
            "url",
            "expires_in_days",
            "source_url",
            "upload_id",
            "all_sessions",
            "x",
            "\0",
            "options",
            "requests_per_s",
            "max_audio_s_per_month",
        ]
        told = {name: self._value() for name in self._rng.sample(names, self._rng.randrange(1, 6))}
        made.body = json.dumps(told if self._rng.random() < 0.8 else self._value()).encode()
        self._say(made, b"application/json")

    def _almost_right(self, made: Request) -> None:
        told = json.loads(json.dumps(self._route.example))
        if isinstance(told, dict) and told:
            name = self._rng.choice(list(told))
            if self._rng.random() < 0.2:
                name = self._rng.choice(["x", "\0", ""])
            told[name] = self._value()
        made.body = json.dumps(told).encode()
        self._say(made, b"application/json")

    def _deep(self, made: Request) -> None:
        times = self._rng.choice([500, 5_000, 60_000])
        made.body = self._rng.choice(
            [b"[" * times, b'{"name":' * times, b"[" * times + b"]" * times]
        )
        self._say(made, b"application/json")

    def _bytes(self, made: Request) -> None:
        made.body = self._rng.choice(
            [
                self._rng.randbytes(self._rng.choice([1, 100, 100_000])),
                b'{"name": "\xff\xfe"}',
                b'{"name": "\x00"}',
                b'{"name": NaN}',
                b"\xef\xbb\xbf{}",
                b'{"a":1,"a":2}',
                b"\0" * 70_000,
                b'{"x": 1' + b"0" * 30_000 + b"}",
                b"RIFF\0\0\0\0WAVE",
                b"OggS" + b"\xff" * 500,
            ]
        )
        self._say(made, self._rng.choice([b"application/json", b"audio/wav", b"text/plain"]))

    def _form(self, made: Request) -> None:
        names = ["file", "clip", "manifest", "options", "model", "x", "", "\\", "%00", "priority"]
        contents = [
            b"",
            b"{}",
            b"file,label\na,b\n",
            b"file,label\na\0,b\n",
            b"\xff" * 50,
            b"RIFF\0\0\0\0WAVE",
            b'{"seed": 1e99}',
            b'file,label\n"a',
            b"x" * 30_000,
            b"file,label,start_s,end_s\na,b,nan,inf\n",
            b"onset_s,file\n",
        ]
        parts = b""
        for _ in range(self._rng.choice([0, 1, 2, 4])):
            name, file = self._rng.choice(names), self._rng.choice(["a", "../a", "\0", "é", '\\"'])
            parts += (
                (
                    f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
                    + self._rng.choice(
                        ["", "Content-Type: x/y\r\n", "Content-Length: -1\r\n", "x\r\n"]
                    )
                    + "\r\n"
                ).encode()
                + self._rng.choice(contents)
                + b"\r\n"
            )
        made.body = parts + b"--b--\r\n"
        self._say(made, b"multipart/form-data; boundary=b")

    def _broken_form(self, made: Request) -> None:
        self._form(made)
        cut = self._rng.randrange(len(made.body))
        if self._rng.random() < 0.5:
            made.body = made.body[:cut] + self._rng.randbytes(self._rng.randrange(20))
        self._say(
            made,
            b"multipart/form-data"
            + self._rng.choice(
                [
                    b"",
                    b"; boundary=",
                    b"; boundary=b; boundary=c",
                    b'; boundary="b',
                    b"; boundary=\xff",
                    b"; boundary=" + b"b" * 500,
                    b"; charset=x; boundary=b",
                    b";;=;",
                    b"; boundary=c",
                ]
            ),
        )

    def _length(self, made: Request) -> None:
        made.is_measured = False
        length = self._rng.choice([b"-1", b"+5", b"many", b"", b"9" * 30, b"0x10", b"1, 2", b"1.5"])
        made.headers.append(("Content-Length", length))
        if self._rng.random() < 0.3:
            made.headers.append(("Content-Length", b"3"))
        made.is_cut = True

    def _chunks(self, made: Request) -> None:
        made.is_measured = False
        made.headers.append(("Transfer-Encoding", self._rng.choice([b"chunked", b"gzip", b"x"])))
        made.body = self._rng.choice(
            [
                b"0\r\n\r\n",
                b"zz\r\n",
                b"5\r\nab",
                b"-1\r\n",
                b"ffffffffffffffffffff\r\nx",
                b"",
                b"3\r\nabc\r\n0\r\n\r\n",
                b"3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n",
            ]
        )
        made.is_cut = True

    def _cut(self, made: Request) -> None:
        made.is_measured, made.is_cut = False, True
        length = len(made.body) + self._rng.choice([1, 100, 10**9])
        made.headers.append(("Content-Length", b"%d" % length))

    def _kind(self, made: Request) -> None:
        self._say(
            made,
            self._rng.choice(
                [
                    b"",
                    b"/",
                    b";",
                    b"text/xml",
                    b"application/x-www-form-urlencoded",
                    b"\xff",
                    b"a" * 900,
                    b"application/json; charset=utf-16",
                    b"audio/wav; x",
                    b"multipart/mixed; boundary=b",
                ]
            ),
        )

    def _accept(self, made: Request) -> None:
        accept = [
            b"text/xml",
            b"application/xml;q=2",
            b"",
            b"*",
            b"\xff",
            b"image/png, */*;q=0",
            b";q",
        ]
        made.headers.append(("Accept", self._rng.choice(accept)))

    @staticmethod
    def _say(made: Request, kind: bytes) -> None:
        made.headers = [each for each in made.headers if each[0] != "Content-Type"]
        made.headers.append(("Content-Type", kind))


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
