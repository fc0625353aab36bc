"""Write files that survive a power failure and appear under their name only when complete.

The store's library renames a finished file into place but flushes nothing: after a power failure
the file may be empty, or its name gone, although the row that names it was committed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: The name of a file that is still being written. The pattern is that of the store's library, so
#: that listings omit it.
UNFINISHED = re.compile(r".+#\d+")
#: The write buffer.
BUFFER_BYTES = 1024 * 1024
#: How often folders are created again if a removal of their last file removes them meanwhile.
OPEN_TRIES = 10

#: One segment of a key: not empty, no control characters.
_SEGMENT = re.compile(r"[^/\x00-\x1f\x7f]+")


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, and flush the names of the new ones."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _flush(each.parent)


@contextmanager
def create(root: Path, key: str) -> Iterator[IO[bytes]]:
    """Write the file of a key below ``root``. An error leaves the previous file in place.

    At the end the content is flushed, then the name, then the names of all folders above it:
    another writer may have just created one without flushing it yet. Folders already on disk cost
    next to nothing.

    Raises
    ------
    ValueError
        If the key leads out of ``root``, or is that of an unfinished file.
    OSError
        If the content cannot be written, or ``root`` is missing.
    """
    path = _path(root, key)
    folders = path.parents[: len(path.parents) - len(root.parents)]
    part = path.with_name(f"{path.name}#{secrets.randbits(63)}")
    file = _open(part, folders)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        _remove_empty(folders)
        raise
    for folder in folders:
        _flush(folder)


def _path(root: Path, key: str) -> Path:
    segments = key.split("/")
    if (
        not all(_SEGMENT.fullmatch(segment) for segment in segments)
        or {".", ".."} & set(segments)
        or UNFINISHED.fullmatch(segments[-1])
    ):
        raise ValueError(f"{key!r} is not a key: a path segment is empty, relative or reserved")
    return root.joinpath(*segments)


def _open(part: Path, folders: Sequence[Path]) -> IO[bytes]:
    """Create a file and the folders above it, except the root, which must exist."""
    for tries_left in reversed(range(OPEN_TRIES)):
        try:
            for folder in folders[-2::-1]:
                folder.mkdir(exist_ok=True)
            return part.open("xb", buffering=BUFFER_BYTES)
        except FileNotFoundError:
            if not tries_left or not folders[-1].is_dir():
                raise
    raise AssertionError("the last try raises")


def _remove_empty(folders: Sequence[Path]) -> None:
    with suppress(OSError):
        for folder in folders[:-1]:
            folder.rmdir()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
