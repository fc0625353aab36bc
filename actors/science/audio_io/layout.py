"""Conversion of the parts of a joined recording to one rate and number of channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.types import AudioFormat


class Layout(NamedTuple):
    """Sample rate and number of channels of audio blocks."""

    rate_hz: int
    n_channels: int

    @classmethod
    def of(cls, audio: AudioFormat) -> Layout:
        """Return the layout of a recording."""
        return cls(audio.rate_hz, audio.n_channels)


class LayoutConverter:
    """Converts blocks from one layout to another.

    A different rate is resampled. If the number of channels differs, every channel becomes the mean
    of the input channels, which preserves the level.
    """

    def __init__(self, given: Layout, wanted: Layout) -> None:
        self._n_channels = wanted.n_channels
        self._is_same = given.n_channels == wanted.n_channels
        self._stream = (
            None
            if given.rate_hz == wanted.rate_hz
            else soxr.ResampleStream(given.rate_hz, wanted.rate_hz, wanted.n_channels)
        )

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, given)], return the available output [shape=(m, wanted)]."""
        if not self._is_same:
            mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
            block = np.repeat(mean, self._n_channels, axis=1)
        return block if self._stream is None else self._resampled(block, last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the resampler's output."""
        nothing = np.zeros((0, self._n_channels), dtype=np.float32)
        return nothing if self._stream is None else self._resampled(nothing, last=True)

    def _resampled(self, block: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        assert self._stream is not None
        found = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return np.asarray(found, dtype=np.float32).reshape(-1, self._n_channels)
