"""What a blob store fails with, whichever store it is.

::

    BlobError                one blob cannot be read
      BlobsAway              the store as a whole fails: it is away, hangs or refuses
        BlobsFull            the store has no room
    BlobMissing              there is no such blob (not an error of the store)

Callers see these classes alone, never those of the store's library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from obstore.exceptions import BaseError

#: Errors of the operating system that the store's library names only in its text.
_CODE = re.compile(r"\(os error (\d+)\)")
#: How a bucket's server has answered, which its library names there, too.
_STATUS = re.compile(r"status code: (\d+[\w ]*)")
#: ENOSPC, EDQUOT and EFBIG; and the status of a server without room.
_NO_ROOM = frozenset({"28", "122", "27"})
_SERVER_FULL = "status code: 507"
#: ENOTDIR and ENAMETOOLONG: no blob can have this key.
_NO_SUCH_KEY = frozenset({"20", "36"})
#: EPERM, EACCES, EISDIR and ELOOP: this blob cannot be read, and others can.
_OF_ONE_BLOB = frozenset({"1", "13", "21", "40"})
#: As a folder and as a bucket have it.
_BEHIND_THE_END = ("range was invalid", "status code: 416")


class BlobMissing(Exception):
    """There is no blob under this key."""


class BlobError(OSError):
    """A blob cannot be read. The text names no host or path."""


class BlobsAway(BlobError):
    """The store as a whole fails: it is away, hangs or refuses. It may come back at any time."""


class BlobsFull(BlobsAway):
    """The store has no room."""

    def __init__(self, reason: str = "the blob store has no room") -> None:
        super().__init__(reason)


@contextmanager
def writing(body: Body | None = None) -> Iterator[None]:
    """Raise :class:`BlobsAway` for what the store raises while it is written to or listed.

    What was raised in ``body`` is the caller's own error, and passes unchanged.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, BlobError) or (body is not None and error is body.raised):
            raise
        raise _away(error) from error


@contextmanager
def reading() -> Iterator[None]:
    """Raise :class:`BlobError` or :class:`BlobsAway` for what the store raises over one blob.

    A blob that is not there stays a ``FileNotFoundError``.
    """
    try:
        yield
    except (BlobError, FileNotFoundError):
        raise
    except (BaseError, OSError) as error:
        code = _code(error)
        if code in _NO_SUCH_KEY:
            raise FileNotFoundError from error
        if code in _OF_ONE_BLOB or any(each in str(error) for each in _BEHIND_THE_END):
            raise BlobError(_told(error)) from error
        raise _away(error) from error


class Body:
    """The caller's part of an operation, as a context manager that keeps what was raised in it."""

    raised: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.raised = error


class Pieces(Body):
    """The pieces of a blob on their way to the store."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        with self:
            yield from self._pieces


class Writer:
    """The store's writer, whose errors are those of this module."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, data: Any, /) -> int:
        """Write some bytes; how many."""
        with writing():
            return int(self._writer.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def _away(error: BaseException) -> BlobsAway:
    if _code(error) in _NO_ROOM or _SERVER_FULL in str(error):
        return BlobsFull()
    return BlobsAway(_told(error))


def _code(error: BaseException) -> str | None:
    """The number of the operating system's error, if it is one."""
    if isinstance(error, OSError) and error.errno is not None:
        return str(error.errno)
    found = _CODE.search(str(error))
    return found and found[1]


def _told(error: BaseException) -> str:
    """The cause in one line. It stands at the end of the first, behind URLs and paths."""
    told = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    status = _STATUS.search(told)
    return f"the blob store failed: {status[1] if status else told.rpartition(': ')[2]}"
