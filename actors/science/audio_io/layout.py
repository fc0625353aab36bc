"""Conversion of the parts of a joined recording to one rate and number of channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from actors.science.audio_io.downmix import Downmix
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

    A different rate is resampled. If the number of channels differs, every channel becomes the mono
    mix of the input channels, which has the level of their energy mean.
    """

    def __init__(self, given: Layout, wanted: Layout) -> None:
        self._n_channels = wanted.n_channels
        self._downmix = (
            None
            if given.n_channels == wanted.n_channels
            else Downmix(rate_hz=given.rate_hz, used=range(given.n_channels))
        )
        self._stream = (
            None
            if given.rate_hz == wanted.rate_hz
            else soxr.ResampleStream(given.rate_hz, wanted.rate_hz, wanted.n_channels)
        )

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take frames [shape=(n, given)], return the available output [shape=(m, wanted)]."""
        if self._downmix is not None:
            block = self._spread(self._downmix.push(block))
        return block if self._stream is None else self._resampled(block, last=False)

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the output."""
        mono = np.zeros(0, dtype=np.float32) if self._downmix is None else self._downmix.finish()
        rest = self._spread(mono)
        return rest if self._stream is None else self._resampled(rest, last=True)

    def _spread(self, mono: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(mono[:, None], self._n_channels, axis=1)

    def _resampled(self, block: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        assert self._stream is not None
        found = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return np.asarray(found, dtype=np.float32).reshape(-1, self._n_channels)
