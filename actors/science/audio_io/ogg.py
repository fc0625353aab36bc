"""The links of chained Ogg files: complete streams one after the other, as recorders of streams
write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from actors.science.audio_io.chain import MOST_PARTS
from actors.science.errors import Undecodable

#: The first page of a stream: version 0, the flag for a beginning, and a position of 0.
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]\x00{8}")
_MARK_BYTES = 14
#: Length of a page's header up to the segment table; its last byte is the table's length.
_HEADER_BYTES = 27
BLOCK_BYTES = 1 << 20


def links(file: BinaryIO) -> list[range]:
    """Return the byte ranges of the links of an Ogg file, in order.

    First pages without a gap between them begin simultaneous streams of one link.

    Raises
    ------
    Undecodable
        If there are more than `chain.MOST_PARTS`.
    """
    starts: list[int] = []
    group_end = 0
    for offset in _first_pages(file):
        if not starts or offset != group_end:
            starts.append(offset)
        if len(starts) > MOST_PARTS:
            raise Undecodable(f"the file joins more than {MOST_PARTS} Ogg streams")
        group_end = offset + _page_bytes(file, offset)
    bounds = [*starts, file.seek(0, 2)]
    return [range(start, end) for start, end in pairwise(bounds)]


def _first_pages(file: BinaryIO) -> Iterator[int]:
    """Yield the offsets of all pages that begin a stream."""
    position, kept = 0, b""
    while True:
        file.seek(position)
        data = file.read(BLOCK_BYTES)
        if not data:
            return
        block = kept + data
        for found in _FIRST_PAGE.finditer(block):
            yield position - len(kept) + found.start()
        position += len(data)
        kept = block[1 - _MARK_BYTES :]


def _page_bytes(file: BinaryIO, offset: int) -> int:
    file.seek(offset)
    header = file.read(_HEADER_BYTES + 255)
    table = header[_HEADER_BYTES : _HEADER_BYTES + header[_HEADER_BYTES - 1]]
    return _HEADER_BYTES + len(table) + sum(table)
