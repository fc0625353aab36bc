"""Files that survive a power failure, and appear under their name only when they are whole.

The store's own library renames a finished file into place but flushes nothing: after a power
failure the file may be empty, or its name gone, while the row that speaks of it was committed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

#: The name of a file that is still being written. It is that of the store's own library, so that
#: no listing shows it.
UNFINISHED = re.compile(r".+#\d+")
#: What is collected in memory before it is written.
BUFFER_BYTES = 1024 * 1024
#: How often folders are made again that a removal of their last file takes away meanwhile.
OPEN_TRIES = 10

#: One part of a key: not empty, no control characters.
_SEGMENT = re.compile(r"[^/\x00-\x1f\x7f]+")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and flush the names of those that were not there."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _flush(each.parent)


@contextmanager
def create(root: Path, key: str) -> Iterator[IO[bytes]]:
    """Write the file of a key below ``root``; an error leaves what was there before.

    At the end the content is on disk, then the name, then the names of the folders above it, all
    of them: another writer may have made one a moment ago and not have flushed it yet. Folders that
    are on disk already cost next to nothing.

    Raises
    ------
    ValueError
        If the key leads out of ``root``, or is that of an unfinished file.
    OSError
        If the disk refuses the content, or ``root`` is not there.
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
    """Open a new file, with the folders above it; the last of these is never made."""
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
