"""Read and write the files of a folder of blobs.

The store's library reads a file in other threads, piece by piece. For a short recording this takes
ten times as long as the reading itself.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from db.blobs import durable
from db.blobs.errors import reading
from db.blobs.file_calls import FileCalls


def opened(root: Path, key: str, *, read_bytes: int, calls: FileCalls) -> io.BufferedReader:
    """Open the file of a key below ``root``, itself by a call.

    One of up to ``read_bytes`` is read at once, a larger one by further calls.

    Raises
    ------
    FileNotFoundError
        If the file is missing, or the key is not that of a file.
    OSError
    """
    try:
        path = durable.path_of(root, key)
    except ValueError as error:
        raise FileNotFoundError from error
    # Opening a named pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = _Source(descriptor, calls)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a file")
        file.size_bytes = found.st_size
        if file.size_bytes > read_bytes:
            return io.BufferedReader(file, buffer_size=read_bytes)
        whole = io.BytesIO(file.readall())
    except BaseException:
        file.close()
        raise
    file.close()
    return io.BufferedReader(whole)


@contextmanager
def created(root: Path, key: str, *, calls: FileCalls) -> Iterator[Pieces]:
    """Write the file of a key below ``root``, as :func:`durable.create` does, by calls.

    A small file takes a single call.
    """
    with ExitStack() as opened:

        def open_file() -> IO[bytes]:
            creating = durable.create(root, key)
            return opened.enter_context(calls.entered(creating, n_bytes=lambda: pieces.n_bytes))

        pieces = Pieces(open_file, calls)
        yield pieces
        if pieces.file is None:
            whole = bytes(pieces.waiting)
            calls.run(partial(durable.put, root, key, whole), n_bytes=len(whole))
        else:
            pieces.flush()


class Pieces:
    """Collects what is written, and writes it to a file by calls, a large piece at a time."""

    def __init__(self, open_file: Callable[[], IO[bytes]], calls: FileCalls) -> None:
        self._open_file = open_file
        self._calls = calls
        #: Opened for the first piece.
        self.file: IO[bytes] | None = None
        self.waiting = bytearray()
        #: How many bytes were written to the file.
        self.n_bytes = 0

    def write(self, data: bytes, /) -> int:
        """Write some bytes; return their number."""
        self.waiting += data
        if len(self.waiting) >= durable.BUFFER_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        """Write to the file what was collected."""
        if self.file is None:
            self.file = self._open_file()
        # A call that hung may still use the bytes, so they are not touched again.
        data, self.waiting = self.waiting, bytearray()
        self._calls.run(partial(self.file.write, data))
        self.n_bytes += len(data)


class _Source(io.RawIOBase):
    """A file that is read by calls, and whose errors are those of blobs."""

    size_bytes = 0

    def __init__(self, descriptor: int, calls: FileCalls) -> None:
        self._descriptor = descriptor
        self._calls = calls
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size_bytes}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "before the start of the file")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(max(self.size_bytes - self._at, 0))

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()

    def _read(self, n_bytes: int) -> bytes:
        # Neither into a buffer nor from the current position: a call that hung may end later.
        with reading():
            data = self._calls.run(partial(os.pread, self._descriptor, n_bytes, self._at))
        self._at += len(data)
        return data
