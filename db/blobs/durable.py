"""Write files that survive a power failure and appear under their name only when complete.

The store's library renames a finished file into place but flushes nothing: after a power failure
the file may be empty, or its name gone, although the row that names it was committed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

#: The name of a file that is still being written. The pattern is that of the store's library, so
#: that listings omit it.
UNFINISHED = re.compile(r".+#\d+")
#: The write buffer.
BUFFER_BYTES = 1024 * 1024
#: How often folders are created again if a removal of their last file removes them meanwhile.
OPEN_TRIES = 10

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

T = TypeVar("T")

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

    At the end the content is flushed, then the name (:func:`flush_names`).

    Raises
    ------
    ValueError
        If the key leads out of ``root``, or is that of an unfinished file.
    OSError
        If the content cannot be written, or ``root`` is missing.
    """
    with _named(root, key) as file:
        yield file
    flush_names(root, [key])


def write(root: Path, key: str, content: bytes) -> None:
    """Write a file as :func:`create` does, but without flushing its name.

    For several files of one folder, whose names are then flushed together: each flush of a changed
    folder waits for the disk. Makes as few system calls as it can: after each of them a thread has
    to wait for its turn, if the process computes meanwhile.
    """
    path = path_of(root, key)
    folders = _folders(root, path)
    part = _part(path)
    descriptor = _opened(folders, lambda: os.open(part, _NEW_FILE, 0o666))
    try:
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
    except BaseException:
        _remove(part, folders)
        raise


def put(root: Path, key: str, content: bytes) -> None:
    """Write a file and flush its name."""
    write(root, key, content)
    flush_names(root, [key])


def flush_names(root: Path, keys: Iterable[str]) -> None:
    """Flush the names of files below ``root``, then those of all folders above them.

    Another writer may have just created one without flushing it yet. Folders already on disk cost
    next to nothing.
    """
    folders = {folder for key in keys for folder in _folders(root, path_of(root, key))}
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        _flush(folder)


@contextmanager
def _named(root: Path, key: str) -> Iterator[IO[bytes]]:
    """Write a file, flush its content, and give it its name."""
    path = path_of(root, key)
    folders = _folders(root, path)
    part = _part(path)
    file = _opened(folders, lambda: part.open("xb", buffering=BUFFER_BYTES))
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        _remove(part, folders)
        raise


def _part(path: Path) -> Path:
    """Return the path of a file while it is being written."""
    return path.with_name(f"{path.name}#{secrets.randbits(63)}")


def _folders(root: Path, path: Path) -> Sequence[Path]:
    """Return the folders above a file, from its own up to ``root``."""
    return path.parents[: len(path.parents) - len(root.parents)]


def path_of(root: Path, key: str) -> Path:
    """Return the path of a key below ``root``.

    Raises
    ------
    ValueError
        If the key leads out of ``root``, or is that of an unfinished file.
    """
    segments = key.split("/")
    if (
        not all(_SEGMENT.fullmatch(segment) for segment in segments)
        or {".", ".."} & set(segments)
        or UNFINISHED.fullmatch(segments[-1])
    ):
        raise ValueError(f"{key!r} is not a key: a path segment is empty, relative or reserved")
    return root.joinpath(*segments)


def _opened(folders: Sequence[Path], opening: Callable[[], T]) -> T:
    """Open a new file. Creates the folders above it, except the root, which must exist."""
    for tries_left in reversed(range(OPEN_TRIES)):
        try:
            return opening()
        except FileNotFoundError:
            if not tries_left or not folders[-1].is_dir():
                raise
        with suppress(FileNotFoundError):
            for folder in folders[-2::-1]:
                folder.mkdir(exist_ok=True)
    raise AssertionError("the last try raises")


def _remove(part: Path, folders: Sequence[Path]) -> None:
    """Remove an unfinished file, and the folders above it that are empty."""
    part.unlink(missing_ok=True)
    with suppress(OSError):
        for folder in folders[:-1]:
            folder.rmdir()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
