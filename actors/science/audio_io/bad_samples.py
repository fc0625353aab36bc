"""Samples that are not audio become holes in the recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science.audio_io.holes import Holes
from actors.science.types import Hole, HoleKind

#: Samples beyond this (120 dB over full scale) are garbage that was interpreted as floating point.
MAX_AMPLITUDE = 1e6

#: Bad samples less than this apart are one hole: what is between them is hardly sound.
MERGED_S = 0.01


class BadSamples:
    """Replaces samples that are not audio by zeros, piece by piece.

    Where a used channel has bad samples, all channels have a hole; those less than `MERGED_S` apart
    are one hole. So the frames after a bad one are held back until it is known whether another one
    follows. Bad samples of other channels are replaced one by one. The result does not depend on
    the division into pieces.

    Parameters
    ----------
    rate_hz, n_channels
        Of the pieces.
    holes
        Receives the holes of all returned pieces.
    used
        Indices of the used channels.

    Attributes
    ----------
    n_bad : numpy.ndarray [shape=(n_channels,)]
        The number of bad samples of each channel, whether used or not.
    """

    def __init__(self, rate_hz: int, holes: Holes, *, n_channels: int, used: Sequence[int]) -> None:
        self.n_bad = np.zeros(n_channels, dtype=np.int64)
        self._used = list(used)
        self._holes = holes
        self._n_apart = max(round(MERGED_S * rate_hz), 1)
        #: The frames after the last bad one that are held back; None if none was near.
        self._held: NDArray[np.float32] | None = None
        #: The position of the next frame to return.
        self._at = 0

    def push(self, piece: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, n_channels)], n > 0; return frames, perhaps none."""
        bad: NDArray[np.intp] = np.zeros(0, dtype=np.intp)
        # A comparison with NaN is false, so this one test detects all three.
        if not float(np.abs(piece).max()) <= MAX_AMPLITUDE:
            is_bad = ~(np.abs(piece) <= MAX_AMPLITUDE)
            self.n_bad += is_bad.sum(axis=0)
            piece = np.where(is_bad, np.float32(0.0), piece)
            bad = np.flatnonzero(is_bad[:, self._used].any(axis=1))
        is_open = self._held is not None
        if self._held is not None:
            bad += len(self._held)
            piece = np.concatenate([self._held, piece])
            self._held = None
        if not bad.size:
            if is_open and len(piece) < self._n_apart:
                self._held = piece
                return piece[:0]
            self._at += len(piece)
            return piece
        return self._with_holes(piece, bad, is_open=is_open)

    def _with_holes(
        self, piece: NDArray[np.float32], bad: NDArray[np.intp], *, is_open: bool
    ) -> NDArray[np.float32]:
        """Replace bad frames of a piece, and the frames between those near each other."""
        ends = np.flatnonzero(np.diff(bad) > self._n_apart)
        starts = bad[np.concatenate([[0], ends + 1])]
        stops = bad[np.concatenate([ends, [bad.size - 1]])] + 1
        if is_open and starts[0] < self._n_apart:
            starts[0] = 0
        piece = piece.copy()
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            piece[start:stop] = 0.0
            hole = Hole(self._at + start, self._at + stop, HoleKind.BAD_SAMPLES)
            self._holes.add(hole, n_apart=self._n_apart)
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
