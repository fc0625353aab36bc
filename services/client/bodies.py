"""Files as bodies of requests: read in pieces while they are sent, with a count of the bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, cast

READ_BYTES = 256 * 1024

#: Gets the number of bytes of each piece that was sent, and a negative number when bytes that were
#: sent before are sent again.
OnBytes = Callable[[int], object]
#: A part of a form: the name of its field, its file name, and its content.
Part = tuple[str, tuple[str, "IO[bytes] | bytes"]]


class FilePieces:
    """A file in pieces, from its beginning at each iteration."""

    def __init__(self, path: Path, on_bytes: OnBytes | None) -> None:
        self._path = path
        self._on_bytes = on_bytes or (lambda _n_bytes: None)
        self._n_sent = 0

    def __iter__(self) -> Iterator[bytes]:
        self._on_bytes(-self._n_sent)
        self._n_sent = 0
        with self._path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                yield piece
                self._n_sent += len(piece)
                self._on_bytes(len(piece))


class LazyFile:
    """A file opened only while it is sent: a form may have more files than may be open at once."""

    def __init__(self, path: Path, on_bytes: OnBytes | None) -> None:
        self._path = path
        self._on_bytes = on_bytes or (lambda _n_bytes: None)
        self._file: IO[bytes] | None = None
        self._at = 0
        self._n_sent = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (self._path.stat().st_size if whence == os.SEEK_END else 0)
        if self._file is not None:
            self._file.seek(self._at)
        if self._at == 0 and self._n_sent:
            # The file is sent again.
            self._on_bytes(-self._n_sent)
            self._n_sent = 0
        return self._at

    def read(self, n_bytes: int = -1) -> bytes:
        if self._file is None:
            self._file = self._path.open("rb")
            self._file.seek(self._at)
        piece = self._file.read(n_bytes)
        if piece:
            self._on_bytes(len(piece))
            self._n_sent += len(piece)
        else:
            self._file.close()
            self._file = None
        return piece


def file_part(field: str, path: Path, on_bytes: OnBytes | None, *, name: str = "") -> Part:
    """Return a file as a part of a form, with ``name`` in place of its own."""
    # httpx calls only read(), seek() and tell().
    content = cast("IO[bytes]", LazyFile(path, on_bytes))
    return field, (name or path.name, content)


def labelled_parts(
    manifest: bytes | None, clips: Mapping[str, Path], on_bytes: OnBytes | None
) -> list[Part]:
    """Return a manifest and its recordings, by their names in it, as parts of a form."""
    parts: list[Part] = []
    if manifest is not None:
        parts.append(("manifest", ("manifest.csv", manifest)))
    parts += [file_part("clip", path, on_bytes, name=name) for name, path in clips.items()]
    return parts
