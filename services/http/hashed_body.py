"""The body of a request, hashed while the application reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from falcon.typing import ReadableIO


class HashedBody:
    """A request's body, hashed as it is read. Every form boundary is hashed as the same mark,
    however the body is split into pieces.
    """

    _MARK = b"\0boundary\0"

    def __init__(self, body: ReadableIO, boundary: bytes) -> None:
        self._body = body
        self._boundary = boundary
        self._sha256 = hashlib.sha256()
        #: Unhashed bytes that may be the start of a boundary.
        self._held = b""

    def read(self, *size: int | None) -> bytes:
        return self._seen(self._body.read(*size))

    def readline(self, *size: int) -> bytes:
        return self._seen(self._body.readline(*size))  # type: ignore[attr-defined]

    def readlines(self, *hint: int) -> list[bytes]:
        return [self._seen(line) for line in self._body.readlines(*hint)]  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[bytes]:
        return map(self._seen, self._body)  # type: ignore[no-any-return, call-overload]

    def digest(self) -> bytes:
        """Return the hash of everything read so far."""
        whole = self._sha256.copy()
        whole.update(self._held)
        return whole.digest()

    def _seen(self, piece: bytes) -> bytes:
        if not self._boundary:
            self._sha256.update(piece)
            return piece
        *parts, last = (self._held + piece).split(self._boundary)
        for part in parts:
            self._sha256.update(part)
            self._sha256.update(self._MARK)
        cut = max(len(last) - len(self._boundary) + 1, 0)
        self._sha256.update(last[:cut])
        self._held = last[cut:]
        return piece
