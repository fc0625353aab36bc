"""Reads the JSON object of a large body piece by piece, and never holds more of it than one value.

For objects whose members are scalars, or arrays of scalars, such as a list of keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from falcon.typing import ReadableIO

from db import typed
from services.http.errors import FieldError
from services.http.field_errors import MOST_TOLD_CHARS
from services.http.request_errors import InvalidBody

#: Bytes per read, and of one value: a text of 1,024 characters, each of them escaped, and blanks.
PIECE_BYTES = 64 * 1024
MOST_VALUE_BYTES = 8 * 1024

#: A mark, a string, or a word or number up to what ends it.
_TOKEN = re.compile(
    rb'[ \t\r\n]*+(?P<token>[][{}:,]|"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^][{}:," \t\r\n]++)', re.DOTALL
)
_MARKS = frozenset(b"[]{}:,")


class Members:
    """Iterates over the members of an object: the name and the value of each scalar, and of each
    item of an array, with its index; an empty array is yielded as ``(name, None, [])``.

    Raises
    ------
    InvalidBody
        While iterating: the body is not such an object, or a member was given twice.
    """

    def __init__(self, stream: ReadableIO) -> None:
        self._stream = stream
        self._data = b""
        self._start = 0
        self._n_before = 0
        self._is_whole = False
        self._names: set[str] = set()

    def __iter__(self) -> Iterator[tuple[str, int | None, Any]]:
        first = self._next()
        if first == b"":
            # An empty body counts as an empty object.
            return
        if first != b"{":
            raise _refused("", "must be an object")
        token = self._next()
        while token != b"}":
            name = self._name(token)
            self._expect(b":")
            token = self._next()
            if token == b"[":
                yield from self._items(name)
            else:
                yield name, None, self._scalar(name, token)
            token = self._next()
            if token == b",":
                token = self._next()
            elif token != b"}":
                raise self._malformed()
        if self._next() != b"":
            raise _refused("", "malformed JSON: it continues after its end")

    def _items(self, name: str) -> Iterator[tuple[str, int | None, Any]]:
        index, token = 0, self._next()
        if token == b"]":
            yield name, None, []
            return
        while True:
            yield name, index, self._scalar(f"{name}[{index}]", token)
            index, token = index + 1, self._next()
            if token == b"]":
                return
            if token != b",":
                raise self._malformed()
            token = self._next()

    def _name(self, token: bytes) -> str:
        name = self._decoded(token)
        if not isinstance(name, str):
            raise self._malformed()
        if name in self._names:
            raise _refused(name[:MOST_TOLD_CHARS], "was given twice")
        self._names.add(name)
        return name

    def _scalar(self, field: str, token: bytes) -> Any:
        if token in (b"[", b"{"):
            raise _refused(field, "must not be an array or an object")
        return self._decoded(token)

    def _decoded(self, token: bytes) -> Any:
        try:
            return typed.decode(token, Any)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._malformed() from None

    def _expect(self, mark: bytes) -> None:
        if self._next() != mark:
            raise self._malformed()

    def _next(self) -> bytes:
        """Return the next token; empty at the end."""
        while True:
            found = _TOKEN.match(self._data, self._start)
            # A word or number at the end of the data may continue.
            if found is not None and (
                self._is_whole or found.end() < len(self._data) or found["token"][0] in _MARKS
            ):
                self._start = found.end()
                return found["token"]
            rest = len(self._data) - self._start
            if rest > MOST_VALUE_BYTES:
                raise _refused("", f"a value must have at most {MOST_VALUE_BYTES} bytes")
            if self._is_whole:
                if self._data[self._start :].strip(b" \t\r\n"):
                    raise _refused("", "malformed JSON: it ends too early")
                return b""
            piece = self._stream.read(PIECE_BYTES)
            self._is_whole = not piece
            self._n_before += self._start
            self._data, self._start = self._data[self._start :] + piece, 0

    def _malformed(self) -> InvalidBody:
        if self._is_whole and self._start >= len(self._data):
            return _refused("", "malformed JSON: it ends too early")
        return _refused("", f"malformed JSON before byte {self._n_before + self._start}")


def _refused(field: str, detail: str) -> InvalidBody:
    return InvalidBody.of([FieldError(field=field, detail=detail)])
