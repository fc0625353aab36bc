"""Recordings one after the other in a file, decoded as one.

Decoders silently stop at the end of the first one, or at the first with a different format. So each
*part* is opened separately, and they are joined here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.decoder import Decoder
from actors.science.audio_io.holes import Holes
from actors.science.audio_io.layout import Layout, LayoutConverter
from actors.science.errors import EmptyRecording, RecordingError
from actors.science.types import Hole

#: Maximum number of parts: a stream of a day has hundreds, a crafted file could have millions.
MOST_PARTS = 10_000


class Chain:
    """The parts of a file in sequence, with the rate and the channels of the first.

    `LayoutConverter` converts the others. A part without audio is skipped. One that cannot be
    decoded is missing; its length is estimated from its share of the file's bytes.

    Parameters
    ----------
    parts
        Byte ranges of the parts.
    open_part
        Opens one of them; raises RecordingError.

    Raises
    ------
    RecordingError
        If no part can be opened: the error of the first one.
    """

    #: The decoder of each part has already allowed for the padding of lossy codecs.
    is_lossy = False

    def __init__(self, parts: list[range], open_part: Callable[[range], Decoder]) -> None:
        self.holes = Holes()
        self._parts = iter(parts)
        self._open_part = open_part
        self._bytes = 0
        self._lost_bytes = 0
        self._lost_s = 0.0
        self._n_frames = 0
        self._failure: RecordingError = EmptyRecording()
        self._part = self._next()
        if self._part is None:
            raise self._failure
        self.format = replace(self._part.format, n_frames=None)

    @property
    def promised(self) -> int | None:
        """The number of decoded frames and of missing frames between them."""
        lost_s = self._lost_s
        if self._lost_bytes and self._bytes:
            lost_s += self._n_frames / self.format.rate_hz * self._lost_bytes / self._bytes
        return self._n_frames + round(lost_s * self.format.rate_hz)

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yield the audio of all parts."""
        while self._part is not None:
            part, begin, known_until = self._part, self._n_frames, 0
            converter = LayoutConverter(Layout.of(part.format), Layout.of(self.format))
            for block in part.blocks():
                # Before the block, which may contain them; the converter yields it later.
                known_until = self._add_holes(part, begin=begin, known_until=known_until)
                yield self._counted(converter.push(block))
            yield self._counted(converter.finish())
            self._lost_s += part.missing_s
            self.close()
            self._part = self._next()

    def close(self) -> None:
        """Close the open part."""
        if self._part is not None:
            self._part.close()
            self._part = None

    def _add_holes(self, part: Decoder, *, begin: int, known_until: int) -> int:
        """Add the holes of a part that end after ``known_until``; return the end of the last one.

        ``begin`` is the frame of the chain at which the part begins.
        """
        given_hz, wanted_hz = part.format.rate_hz, self.format.rate_hz
        for hole in part.holes[bisect_right(part.holes, known_until, key=lambda each: each.stop) :]:
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
        """Open the next part that has audio; None at the end."""
        for part in self._parts:
            try:
                opened = self._open_part(part)
            except EmptyRecording:
                continue
            except RecordingError as error:
                if not self._lost_bytes:
                    self._failure = error
                self._lost_bytes += len(part)
                continue
            self._bytes += len(part)
            return opened
        return None
