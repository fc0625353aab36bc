"""Read the blobs of a bucket as files."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import obstore
from obstore.store import ObjectStore

from db.blobs.errors import reading


def opened(
    store: ObjectStore,
    key: str,
    *,
    read_bytes: int,
    calling: Callable[[], AbstractContextManager[None]],
) -> io.BufferedReader:
    """Open a blob as a seekable file that is fetched as it is read, ``read_bytes`` at a time.

    ``calling`` returns the context of each later call to the bucket.
    """
    reader = obstore.open_reader(store, key, buffer_size=read_bytes)
    return io.BufferedReader(_RawReader(reader, calling), buffer_size=read_bytes)


class _RawReader(io.RawIOBase):
    """Adapts the library's reader to a Python file object, which decoders expect."""

    def __init__(self, reader: Any, calling: Callable[[], AbstractContextManager[None]]) -> None:
        self._reader = reader
        self._calling = calling

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        with self._calling(), reading():
            data = self._reader.read(len(view))
        view[: len(data)] = memoryview(data)
        return len(data)
