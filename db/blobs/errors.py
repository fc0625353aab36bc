"""The errors of blob stores, the same for folders and buckets.

::

    BlobError                one blob cannot be read
      StorageUnavailable     the whole store fails: it is unavailable, hangs or refuses
        StorageFull          the store has no space left
    BlobMissing              there is no such blob (not an error of the store)

Callers only see these classes, never those of the object store's library.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from obstore.exceptions import BaseError
from prometheus_client import Counter

from db.process_metrics import REGISTRY

#: The code of an operating system error, which the store's library gives only in its message.
_CODE = re.compile(r"\(os error (\d+)\)")
#: The status from a bucket's server, which the library gives only there too.
_STATUS = re.compile(r"status code: (\d+[\w ]*)")
#: ENOSPC, EDQUOT and EFBIG; and the status of a server without space.
_NO_ROOM = frozenset({"28", "122", "27"})
_SERVER_FULL = "status code: 507"
#: ENOTDIR and ENAMETOOLONG: no blob can have this key.
_NO_SUCH_KEY = frozenset({"20", "36"})
#: EPERM, EACCES, EISDIR and ELOOP: this blob cannot be read, but others can.
_OF_ONE_BLOB = frozenset({"1", "13", "21", "40"})
#: In the messages of a folder and of a bucket.
_BEHIND_THE_END = ("range was invalid", "status code: 416")


_errors = Counter("clamor_blob_errors", "Failures of the blob store", ["error"], registry=REGISTRY)


class BlobMissing(Exception):
    """There is no blob under this key."""


class BlobError(OSError):
    """A blob cannot be read. The message names no host or path."""


class StorageUnavailable(BlobError):
    """The whole store fails: it is unavailable, hangs or refuses. It may recover at any time."""


class StorageFull(StorageUnavailable):
    """The store has no space left."""

    def __init__(self, reason: str = "the blob store has no room") -> None:
        super().__init__(reason)


@contextmanager
def writing(body: Body | None = None) -> Iterator[None]:
    """Raise :class:`StorageUnavailable` for errors of the store during writes and listings.

    Errors raised in ``body`` are the caller's own and propagate unchanged.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, BlobError) or (body is not None and error is body.raised):
            raise
        raise _unavailable(error) from error


@contextmanager
def reading() -> Iterator[None]:
    """Raise :class:`BlobError` or :class:`StorageUnavailable` for errors of reads of one blob.

    A missing blob stays a ``FileNotFoundError``.
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
            _errors.labels("unreadable").inc()
            raise BlobError(_told(error)) from error
        raise _unavailable(error) from error


def hanging() -> StorageUnavailable:
    """Count a call that takes too long, and return its error."""
    return _unavailable(TimeoutError("it does not answer"))


class Body:
    """The caller's part of an operation: a context manager that records what it raised."""

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


class BlobPieces(Body):
    """The pieces of a blob on their way to the store."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        with self:
            yield from self._pieces


class BlobWriter:
    """Wraps the library's writer to raise the errors of this module."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, data: Any, /) -> int:
        """Write some bytes; return their number."""
        with writing():
            return int(self._writer.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


def _unavailable(error: BaseException) -> StorageUnavailable:
    if _code(error) in _NO_ROOM or _SERVER_FULL in str(error):
        _errors.labels("full").inc()
        return StorageFull()
    _errors.labels("unavailable").inc()
    return StorageUnavailable(_told(error))


def _code(error: BaseException) -> str | None:
    """Return the errno of an operating system error; None for other errors."""
    if isinstance(error, OSError) and error.errno is not None:
        return str(error.errno)
    found = _CODE.search(str(error))
    return found and found[1]


def _told(error: BaseException) -> str:
    """Return the cause in one line. The library puts it at the end of the first line, after URLs
    and paths.
    """
    told = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    status = _STATUS.search(told)
    return f"the blob store failed: {status[1] if status else told.rpartition(': ')[2]}"
