"""Samples that are not audio become holes in the recording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.holes import Holes
from actors.science.types import Hole, HoleKind

#: Samples beyond this (120 dB over full scale) are garbage that was interpreted as floating point.
MAX_AMPLITUDE = 1e6

#: Bad samples less than this apart are one hole: what is between them is hardly sound.
MERGED_S = 0.01


class BadSamples:
    """Replaces samples that are not audio by zeros, in all channels, piece by piece.

    Bad samples less than `MERGED_S` apart are one hole. So the frames after a bad one are held back
    until it is known whether another one follows. The result does not depend on the division into
    pieces.

    Parameters
    ----------
    rate_hz
        The sample rate of the recording.
    holes
        Receives the holes of all returned pieces.

    Attributes
    ----------
    n_bad : int
        The number of replaced frames, those between near ones included.
    first_bad : int or None
        The position of the first one.
    """

    def __init__(self, rate_hz: int, holes: Holes) -> None:
        self.n_bad = 0
        self.first_bad: int | None = None
        self._holes = holes
        self._n_apart = max(round(MERGED_S * rate_hz), 1)
        #: The frames after the last bad one that are held back; None if none was near.
        self._held: NDArray[np.float32] | None = None
        #: The position of the next frame to return.
        self._at = 0

    def push(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, n_channels)], n > 0; return frames, perhaps none."""
        is_open = self._held is not None
        if self._held is not None:
            piece = np.concatenate([self._held, piece])
            self._held = None
        # A comparison with NaN is false, so this one test detects all three.
        if float(np.abs(piece).max()) <= MAX_AMPLITUDE:
            if is_open and len(piece) < self._n_apart:
                self._held = piece
                return piece[:0]
            self._at += len(piece)
            return piece
        bad = np.flatnonzero(~(np.abs(piece) <= MAX_AMPLITUDE).all(axis=1))
        ends = np.flatnonzero(np.diff(bad) > self._n_apart)
        starts = bad[np.concatenate([[0], ends + 1])]
        stops = bad[np.concatenate([ends, [bad.size - 1]])] + 1
        if is_open and starts[0] < self._n_apart:
            starts[0] = 0
        piece = piece.copy()
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            piece[start:stop] = 0.0
            self.n_bad += stop - start
            hole = Hole(self._at + start, self._at + stop, HoleKind.BAD_SAMPLES)
            self._holes.add(hole, n_apart=self._n_apart)
        if self.first_bad is None:
            self.first_bad = self._at + int(starts[0])
        n_ready = int(stops[-1])
        if len(piece) - n_ready >= self._n_apart:
            n_ready = len(piece)
        else:
            self._held = piece[n_ready:]
        self._at += n_ready
        return piece[:n_ready]

    def finish(self) -> NDArray[np.float32] | None:
        """Return the frames that are still held back."""
        held, self._held = self._held, None
        return held
