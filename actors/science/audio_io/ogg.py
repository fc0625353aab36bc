"""Chained Ogg files: whole recordings, one behind the other, as stream recorders write them.

Decoders stop at the end of the first, or at the first that differs from it, without a word. So each
*link* is opened by itself, and all are joined here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.fit import Fit, Layout
from actors.science.errors import EmptyRecording, RecordingError, Undecodable
from actors.science.types import AudioFormat

#: A stream that is recorded for a day has hundreds of links. A crafted file could have millions.
MOST_LINKS = 10_000

#: The first page of a stream: version 0, the flag for a beginning, and a position of 0.
_FIRST_PAGE = re.compile(rb"OggS\x00[\x02\x03\x06\x07]\x00{8}")
_MARK_BYTES = 14
#: Of a page's header before the table of its segments, whose last byte is their number.
_HEADER_BYTES = 27
_BLOCK_BYTES = 1 << 20


class Opened(Protocol):
    """A link that was opened, as `decode.Decoder`."""

    format: AudioFormat
    missing_s: float

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The audio [shape=(n, n_channels)]."""


#: Opens a link; returns it and what closes it. Raises RecordingError.
OpenLink = Callable[[range], tuple[Opened, Callable[[], None]]]


def links(file: BinaryIO) -> list[range]:
    """Return the bytes of each link of an Ogg file, in their order.

    First pages that follow each other without a gap begin streams of one link that sound at the
    same time.

    Raises
    ------
    Undecodable
        When there are more than `MOST_LINKS`.
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
    """Offsets of all pages that begin a stream."""
    position, kept = 0, b""
    while True:
        file.seek(position)
        data = file.read(_BLOCK_BYTES)
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
    """The links of a file, one behind the other, at the rate and with the channels of the first.

    `Fit` brings the others to that. A link without audio is skipped. One that cannot be decoded is
    missing; its length is estimated from its share of the file's bytes.

    Raises
    ------
    RecordingError
        When no link can be opened: that of the first.
    """

    is_lossy = True

    def __init__(self, parts: list[range], open_link: OpenLink) -> None:
        self._parts = iter(parts)
        self._open_link = open_link
        self._bytes = 0
        self._lost_bytes = 0
        self._lost_s = 0.0
        self._n_frames = 0
        self._failure: RecordingError = EmptyRecording()
        self._close: Callable[[], None] = lambda: None
        first = self._next()
        if first is None:
            raise self._failure
        self._first = first
        self.format = replace(first.format, n_frames=None)

    @property
    def promised(self) -> int | None:
        """Frames that were decoded, and those that are missing between them."""
        lost_s = self._lost_s
        if self._lost_bytes and self._bytes:
            lost_s += self._n_frames / self.format.rate_hz * self._lost_bytes / self._bytes
        return self._n_frames + round(lost_s * self.format.rate_hz)

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """The audio of all links."""
        link: Opened | None = self._first
        while link is not None:
            fit = Fit(Layout.of(link.format), Layout.of(self.format))
            for block in link.blocks():
                yield self._counted(fit.push(block))
            yield self._counted(fit.finish())
            self._lost_s += link.missing_s
            self.close()
            link = self._next()

    def close(self) -> None:
        """Close the link that is open."""
        self._close()
        self._close = lambda: None

    def _counted(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        self._n_frames += len(piece)
        return piece

    def _next(self) -> Opened | None:
        """Open the next link that has audio; None at the end."""
        for part in self._parts:
            try:
                link, self._close = self._open_link(part)
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
