"""Malformed requests, generated from a seed."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support import malformed_values as values
from tests.support.raw_http import Request


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
        odd = self._rng.choice(values.PATH_PARTS)
        parts = made.path.split("/")
        parts[self._rng.randrange(1, len(parts))] = odd
        made.path = "/".join(parts)

    def _method(self, made: Request) -> None:
        made.method = self._rng.choice(values.METHODS)

    def _query(self, made: Request) -> None:
        names = [*self._route.parameters * 5, *values.QUERY_NAMES]
        made.query = "&".join(
            f"{self._rng.choice(names)}={self._rng.choice(values.QUERY_VALUES)}"
            for _ in range(self._rng.choice([1, 1, 2, 5, 200]))
        )

    def _header(self, made: Request) -> None:
        name = self._rng.choice(values.HEADER_NAMES)
        value = self._rng.choice(values.HEADER_VALUES)
        made.headers.append((name, value))

    def _huge_head(self, made: Request) -> None:
        if self._rng.random() < 0.5:
            made.headers.append(("X-Huge", b"x" * self._rng.choice([9_000, 70_000, 500_000])))
        else:
            made.headers += [(f"X-{index}", b"x") for index in range(self._rng.choice([90, 400]))]

    def _key_header(self, made: Request) -> None:
        bad = self._rng.choice(values.AUTHORIZATIONS)
        made.headers = [each for each in made.headers if each[0] != "Authorization"]
        made.headers.append(("Authorization", bad))

    def _value(self, depth: int = 0) -> object:
        if depth < 3 and self._rng.random() < 0.3:
            return [self._value(depth + 1) for _ in range(self._rng.randrange(4))]
        if depth < 3 and self._rng.random() < 0.2:
            return {
                str(self._rng.choice(values.JSON_VALUES)): self._value(depth + 1) for _ in range(2)
            }
        return self._rng.choice(values.JSON_VALUES)

    def _json(self, made: Request) -> None:
        told = {
            name: self._value()
            for name in self._rng.sample(values.JSON_NAMES, self._rng.randrange(1, 6))
        }
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
                + self._rng.choice(values.FORM_CONTENTS)
                + b"\r\n"
            )
        made.body = parts + b"--b--\r\n"
        self._say(made, b"multipart/form-data; boundary=b")

    def _broken_form(self, made: Request) -> None:
        self._form(made)
        cut = self._rng.randrange(len(made.body))
        if self._rng.random() < 0.5:
            made.body = made.body[:cut] + self._rng.randbytes(self._rng.randrange(20))
        self._say(made, b"multipart/form-data" + self._rng.choice(values.FORM_PARAMETERS))

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
        made.body = self._rng.choice(values.CHUNKED_BODIES)
        made.is_cut = True

    def _cut(self, made: Request) -> None:
        made.is_measured, made.is_cut = False, True
        length = len(made.body) + self._rng.choice([1, 100, 10**9])
        made.headers.append(("Content-Length", b"%d" % length))

    def _kind(self, made: Request) -> None:
        self._say(made, self._rng.choice(values.MEDIA_TYPES))

    def _accept(self, made: Request) -> None:
        made.headers.append(("Accept", self._rng.choice(values.ACCEPTED)))

    @staticmethod
    def _say(made: Request, kind: bytes) -> None:
        made.headers = [each for each in made.headers if each[0] != "Content-Type"]
        made.headers.append(("Content-Type", kind))
