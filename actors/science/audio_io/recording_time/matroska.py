"""The tags and the date of Matroska and WebM files.

They consist of elements: an identifier, a size, and contents (EBML, RFC 8794; Matroska, RFC 9559).
Nothing here trusts a size: at most `MOST_BYTES` of an element are read, and a limited number.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from actors.science.audio_io.recording_time.riff_chunks import MOST_BYTES
from actors.science.audio_io.recording_time.tags import Tag

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_INFO, _DATE = 0x1549A966, 0x4461
_TAGS, _TAG, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487

#: Most elements in front of the audio; real files have about six.
_MOST_ELEMENTS = 100
#: The longest head of an element: an identifier of four bytes and a size of eight.
_HEAD_BYTES = 12
_EPOCH_2001 = datetime(2001, 1, 1, tzinfo=UTC)


def read(file: BinaryIO) -> tuple[list[Tag], datetime | None]:
    """Return the tags of a file, and the date at which it was begun."""
    found = _bodies(file)
    date = next(_of_kind(_DATE, found.get(_INFO, b"")), b"")
    return list(_tags(found.get(_TAGS, b""))), _created(date) if len(date) == 8 else None


def _tags(body: bytes) -> Iterator[Tag]:
    for tag in _of_kind(_TAG, body):
        for simple in _of_kind(_SIMPLE_TAG, tag):
            named = dict(_children(simple))
            name, text = (named.get(kind, b"") for kind in (_TAG_NAME, _TAG_STRING))
            yield name.decode(errors="replace").lower(), text.decode(errors="replace")


def _created(nanoseconds: bytes) -> datetime | None:
    count = int.from_bytes(nanoseconds, "big", signed=True)
    try:
        return _EPOCH_2001 + timedelta(microseconds=count // 1_000)
    except OverflowError:
        return None


def _bodies(file: BinaryIO) -> dict[int, bytes]:
    """Return the information and the tags of a file, which may be behind its audio."""
    found: dict[int, bytes] = {}
    at, segment, file_bytes = 0, 0, file.seek(0, 2)
    for _ in range(_MOST_ELEMENTS):
        head = _head_at(file, at) if at < file_bytes else None
        if head is None or head[0] == _CLUSTER:
            break
        kind, size, n_head = head
        at += n_head
        if kind == _SEGMENT and not segment:
            segment = at
            continue
        if kind in (_SEEK_HEAD, _INFO, _TAGS):
            found.setdefault(kind, file.read(min(size, MOST_BYTES)))
        at += size
    for kind, position in _positions(found.get(_SEEK_HEAD, b"")):
        if kind not in (_INFO, _TAGS) or kind in found or segment + position >= file_bytes:
            continue
        head = _head_at(file, segment + position)
        if head is not None and head[0] == kind:
            found[kind] = file.read(min(head[1], MOST_BYTES))
    return found


def _positions(seek_head: bytes) -> Iterator[tuple[int, int]]:
    """Yield the identifiers and the positions of elements, relative to the segment."""
    for seek in _of_kind(_SEEK, seek_head):
        named = dict(_children(seek))
        kind, position = (named.get(each, b"")[:8] for each in (_SEEK_ID, _SEEK_POSITION))
        yield int.from_bytes(kind, "big"), int.from_bytes(position, "big")


def _head_at(file: BinaryIO, at: int) -> tuple[int, int, int] | None:
    """Read the head of an element, as `_head` returns it; the file is then at its contents."""
    file.seek(at)
    head = _head(file.read(_HEAD_BYTES))
    if head is not None:
        file.seek(at + head[2])
    return head


def _of_kind(kind: int, body: bytes) -> Iterator[bytes]:
    return (contents for found, contents in _children(body) if found == kind)


def _children(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the identifiers and the contents of the elements in another."""
    at = 0
    while (head := _head(body[at : at + _HEAD_BYTES])) is not None:
        kind, size, n_head = head
        yield kind, body[at + n_head : at + n_head + size]
        at += n_head + size


def _head(data: bytes) -> tuple[int, int, int] | None:
    """Return the identifier, the size and the length of the head of an element; None for no head.

    The number of zeros at the beginning of either is that of its further bytes. A size that is
    unknown consists of ones, and is larger than any file.
    """
    n_kind = _n_bytes(data[:1])
    n_size = _n_bytes(data[n_kind : n_kind + 1])
    if not 1 <= n_kind <= 4 or not n_size or len(data) < n_kind + n_size:
        return None
    size = int.from_bytes(data[n_kind : n_kind + n_size], "big") & ((1 << 7 * n_size) - 1)
    return int.from_bytes(data[:n_kind], "big"), size, n_kind + n_size


def _n_bytes(first: bytes) -> int:
    """Return the length of a number by its first byte; 0 if it is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0
