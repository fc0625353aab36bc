"""Read the files of a folder of blobs.

The store's library reads a file in other threads. For a short recording this takes ten times as
long as the reading itself.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any

from db.blobs import durable
from db.blobs.errors import reading


def opened(root: Path, key: str, *, read_bytes: int) -> io.BufferedReader:
    """Open the file of a key below ``root``. One of up to ``read_bytes`` is read at once.

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
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a file")
        file = _File(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
    if found.st_size > read_bytes:
        return io.BufferedReader(file, buffer_size=read_bytes)
    with file:
        return io.BufferedReader(io.BytesIO(file.readall()))


class _File(io.FileIO):
    """A file whose errors are those of blobs."""

    def readinto(self, buffer: Any, /) -> int:
        with reading():
            return super().readinto(buffer) or 0
