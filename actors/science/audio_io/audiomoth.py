"""Recordings of AudioMoth that lack what was below its trigger.

With an amplitude threshold or a frequency trigger (files named ``...T.WAV``), AudioMoth replaces
buffers below the trigger by a block of 512 bytes with their number: 32 samples of +1 or -1, which
are its bits from the lowest one on, and zeros. Its number is that of blocks, including itself.
Blocks are aligned to the file (OpenAcousticDevices, AudioMoth-Utils, ``expander.js``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.decoder import Backend
from actors.science.types import Hole, HoleKind

#: Samples of a block, and of the number in it.
BLOCK = 256
_N_BITS = 32
_ONE = np.float32(1 / 32_768)

#: Longest interval below the trigger, a day; a larger number is sound that looks like one.
_LONGEST_S = 24 * 3600

#: Longest piece of zeros, so that an interval takes little memory.
_MOST_ZEROS = 65_536


class AudioMothExpander:
    """A backend that replaces marks in a recording of AudioMoth by the time that they stand for.

    Parameters
    ----------
    recorded
        The backend that reads the file.
    n_before
        Samples before the first block.
    """

    def __init__(self, recorded: Backend, *, n_before: int) -> None:
        self._recorded = recorded
        self._n_before = n_before
        self._n_frames = 0
        # The header has the length without what was not recorded.
        self.format = replace(recorded.format, n_frames=None)
        self.is_lossy = recorded.is_lossy
        self.holes = recorded.holes

    @property
    def promised(self) -> int | None:
        """The length in frames that the header declares, without what it lacks."""
        return self._recorded.promised

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yield the audio, with zeros below the trigger."""
        rest = np.zeros((0, 1), dtype=np.float32)
        for piece in self._recorded.pieces():
            samples = np.concatenate([rest, piece])
            if self._n_before:
                if len(samples) < self._n_before:
                    rest = samples
                    continue
                yield self._counted(samples[: self._n_before])
                samples, self._n_before = samples[self._n_before :], 0
            n_whole = len(samples) // BLOCK * BLOCK
            yield from self._expanded(samples[:n_whole])
            rest = samples[n_whole:]
        if len(rest):
            yield self._counted(rest)

    def close(self) -> None:
        """Release the library's memory."""
        self._recorded.close()

    def _expanded(self, samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Yield whole blocks, with zeros in place of marks."""
        blocks = samples.reshape(-1, BLOCK)
        bits = blocks[:, :_N_BITS]
        marks = np.flatnonzero(
            (np.abs(bits) == _ONE).all(axis=1) & ~blocks[:, _N_BITS:].any(axis=1)
        )
        first = 0
        for at in marks.tolist():
            n_skipped = sum(1 << bit for bit in np.flatnonzero(bits[at] > 0).tolist()) * BLOCK
            if not 0 < n_skipped <= _LONGEST_S * self.format.rate_hz:
                continue
            yield self._counted(samples[first * BLOCK : at * BLOCK])
            yield from self._zeros(n_skipped)
            first = at + 1
        yield self._counted(samples[first * BLOCK :])

    def _zeros(self, n_skipped: int) -> Iterator[NDArray[np.float32]]:
        stop = self._n_frames + n_skipped
        self.holes.add(Hole(self._n_frames, stop, HoleKind.NOT_TRIGGERED))
        while self._n_frames < stop:
            n_zeros = min(stop - self._n_frames, _MOST_ZEROS)
            yield self._counted(np.zeros((n_zeros, 1), dtype=np.float32))

    def _counted(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        self._n_frames += len(piece)
        return piece
