"""Chained Ogg files: complete recordings one after the other, as stream recorders write them.

Decoders silently stop at the end of the first one, or at the first with a different format. So each
*link* is opened separately, and they are joined here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.decoder import Decoder
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.layout import Layout, LayoutConverter
from actors.science.errors import EmptyRecording, RecordingError, Undecodable
from actors.science.types import Hole

#: Maximum number of links: a stream of a day has hundreds, a crafted file could have millions.
MOST_LINKS = 10_000

#: The first page of a stream: version 0, the flag for a beginning, and a position of 0.
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]\x00{8}")
_MARK_BYTES = 14
#: Length of a page's header up to the segment table; its last byte is the table's length.
_HEADER_BYTES = 27
BLOCK_BYTES = 1 << 20


#: Opens a link; raises RecordingError.
OpenLink = Callable[[range], Decoder]


def links(file: BinaryIO) -> list[range]:
    """Return the byte ranges of the links of an Ogg file, in order.

    First pages without a gap between them begin simultaneous streams of one link.

    Raises
    ------
    Undecodable
        If there are more than `MOST_LINKS`.
    """
    starts: list[int] = []
    group_end = 0
    for offset in _first_pages(file):
        if not starts or offset != group_end:
            starts.append(offset)
        if len(starts) > MOST_LINKS:
            raise Undecodable(f"the file joins more than {MOST_LINKS} Ogg streams")
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


class Chain:
    """The links of a file in sequence, with the rate and the channels of the first.

    `LayoutConverter` converts the others. A link without audio is skipped. One that cannot be
    decoded is missing; its length is estimated from its share of the file's bytes.

    Raises
    ------
    RecordingError
        If no link can be opened: the error of the first one.
    """

    is_lossy = True

    def __init__(self, parts: list[range], open_link: OpenLink) -> None:
        self.holes = Holes()
        self._parts = iter(parts)
        self._open_link = open_link
        self._bytes = 0
        self._lost_bytes = 0
        self._lost_s = 0.0
        self._n_frames = 0
        self._failure: RecordingError = EmptyRecording()
        self._link = self._next()
        if self._link is None:
            raise self._failure
        self.format = replace(self._link.format, n_frames=None)

    @property
    def promised(self) -> int | None:
        """The number of decoded frames and of missing frames between them."""
        lost_s = self._lost_s
        if self._lost_bytes and self._bytes:
            lost_s += self._n_frames / self.format.rate_hz * self._lost_bytes / self._bytes
        return self._n_frames + round(lost_s * self.format.rate_hz)

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yield the audio of all links."""
        while self._link is not None:
            link, begin, known_until = self._link, self._n_frames, 0
            converter = LayoutConverter(Layout.of(link.format), Layout.of(self.format))
            for block in link.blocks():
                # Before the block, which may contain them; the converter yields it later.
                known_until = self._add_holes(link, begin=begin, known_until=known_until)
                yield self._counted(converter.push(block))
            yield self._counted(converter.finish())
            self._lost_s += link.missing_s
            self.close()
            self._link = self._next()

    def close(self) -> None:
        """Close the open link."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _add_holes(self, link: Decoder, *, begin: int, known_until: int) -> int:
        """Add the holes of a link that end after ``known_until``; return the end of the last one.

        ``begin`` is the frame of the chain at which the link begins.
        """
        given_hz, wanted_hz = link.format.rate_hz, self.format.rate_hz
        for hole in link.holes[bisect_right(link.holes, known_until, key=lambda each: each.stop) :]:
            # Rounded outwards, so that a few bad samples are not lost in a lower rate.
            start = begin + hole.start * wanted_hz // given_hz
            stop = begin - -hole.stop * wanted_hz // given_hz
            self.holes.add(Hole(start, stop, hole.kind))
            known_until = hole.stop
        return known_until

    def _counted(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        self._n_frames += len(piece)
        return piece

    def _next(self) -> Decoder | None:
        """Open the next link that has audio; None at the end."""
        for part in self._parts:
            try:
                link = self._open_link(part)
            except EmptyRecording:
                continue
            except RecordingError as error:
                if not self._lost_bytes:
                    self._failure = error
                self._lost_bytes += len(part)
                continue
            self._bytes += len(part)
            return link
        return None
