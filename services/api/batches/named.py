"""Reads which recordings of the inbox a batch names, from a body of any size.

The names are bounded while they are read, and kept in a file: a list may have ten thousand keys of
a kilobyte, and many requests may send one at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Self

import falcon
import msgspec

from db import typed
from db.blobs.keys import INBOX, MOST_KEY_BYTES, is_inbox_key
from db.tables.sessions import RECORDED_FROM, RECORDED_TO
from services.api.batches.errors import TooManyFiles
from services.api.batches.schemas import NamedRecordings
from services.http.bodies import discard, spooled
from services.http.errors import FieldError, ServiceError
from services.http.field_errors import MOST_TOLD_CHARS, field_error
from services.http.json_pieces import Members
from services.http.request_errors import InvalidBody

#: Invalid keys named in one error.
MOST_NAMED = 5

_FIELDS = {field.name: field.type for field in msgspec.structs.fields(NamedRecordings)}


class _Column:
    """Values in the order in which they were added, in a temporary file."""

    def __init__(self, stack: ExitStack) -> None:
        self._file = stack.enter_context(spooled())
        self.n_values = 0

    def add(self, value: object) -> None:
        self._file.write(msgspec.json.encode(value) + b"\n")
        self.n_values += 1

    def __iter__(self) -> Iterator[Any]:
        self._file.seek(0)
        return (typed.decode(line, Any) for line in self._file)


class NamedInbox:
    """The recordings that a body names: by ``prefix``, or each by its key; a context manager."""

    def __init__(self, req: falcon.Request, *, most: int) -> None:
        self._stack = ExitStack()
        self._keys = _Column(self._stack)
        self._times = _Column(self._stack)
        self._most = most
        self._given: set[str] = set()
        self._bad: list[str] = []
        self._n_bad = 0
        self.prefix: str | None = None
        try:
            self._read(req)
            self._check()
        except BaseException as error:
            self._stack.close()
            if isinstance(error, ServiceError):
                discard(req)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._stack.close()

    @property
    def n_keys(self) -> int:
        """The number of keys."""
        return self._keys.n_values

    def __iter__(self) -> Iterator[tuple[str, datetime | None]]:
        """Iterate over the keys, each with the time of its recording if it was given."""
        times: Iterator[Any] = iter(self._times)
        for key in self._keys:
            at = next(times, None)
            yield key, None if at is None else datetime.fromisoformat(at)

    def _read(self, req: falcon.Request) -> None:
        for name, index, value in Members(req.bounded_stream):
            if name not in _FIELDS:
                raise _refused("", f"unknown field '{name[:MOST_TOLD_CHARS]}'")
            if index is None:
                if value is not None:
                    self._given.add(name)
                # Of an array, only an empty one comes as a whole.
                whole = _converted(name, value, _FIELDS[name])
                self.prefix = whole if name == "prefix" else self.prefix
            elif index >= self._most:
                raise TooManyFiles(
                    f"a batch may have at most {self._most} recordings, with keys of at most"
                    f" {MOST_KEY_BYTES} bytes each"
                )
            else:
                self._given.add(name)
                self._add(name, index, value)

    def _add(self, name: str, index: int, value: object) -> None:
        # Converted as an array of one, for the type and the bounds of an item.
        [item] = _converted(f"{name}[{index}]", [value], _FIELDS[name])
        if name == "keys":
            self._keys.add(item)
            if not is_inbox_key(item):
                self._n_bad += 1
                if len(self._bad) < MOST_NAMED:
                    self._bad.append(repr(item[:MOST_TOLD_CHARS]))
            return
        if item is not None and not RECORDED_FROM <= item < RECORDED_TO:
            raise _refused(
                "recorded_at",
                f"must be in the years {RECORDED_FROM.year} to {RECORDED_TO.year - 1}",
            )
        self._times.add(item)

    def _check(self) -> None:
        """Refuse names that are no choice, and those outside of the inbox."""
        if len(self._given & {"keys", "prefix"}) != 1:
            raise _refused("", "requires 'keys' or 'prefix', but not both")
        if self.prefix is not None and not (
            self.prefix == INBOX or is_inbox_key(self.prefix.removesuffix("/"))
        ):
            raise _refused("prefix", f"must be {INBOX} or a folder below it")
        if "keys" in self._given and not self._keys.n_values:
            raise _refused("keys", "must name at least one recording")
        if "recorded_at" in self._given and self._times.n_values != self._keys.n_values:
            raise _refused(
                "recorded_at", "requires 'keys', and must have an entry for each of them"
            )
        if self._n_bad:
            shown, n_more = ", ".join(self._bad), self._n_bad - len(self._bad)
            more = f" and {n_more} more" if n_more else ""
            raise _refused("keys", f"must name files below {INBOX}, not {shown}{more}")


def _converted(field: str, value: object, kind: Any) -> Any:
    """Convert a value of JSON to the type of its field; raises :class:`InvalidBody`."""
    try:
        return typed.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refused(field, field_error(error).detail) from None


def _refused(field: str, detail: str) -> InvalidBody:
    return InvalidBody.of([FieldError(field=field, detail=detail)])
