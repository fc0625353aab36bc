"""The greatest amplitude of a signal, including values between its samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Samples on either side of a peak that are used for interpolation.
_REACH = 24

#: Oversampling factor of the interpolation: the greatest value is less than 0.15 dB below the peak
#: at 0.45 of the sample rate.
_POINTS = 8


def _interpolator() -> NDArray[np.float64]:
    """Return a matrix from samples around a peak to points between the samples next to it.

    A sinc with a Kaiser window [shape=(2 * _POINTS + 1, 2 * _REACH + 1)].
    """
    at = np.arange(-_POINTS, _POINTS + 1)[:, None] / _POINTS
    away = at - np.arange(-_REACH, _REACH + 1)[None, :]
    inside = np.clip(1 - (away / (_REACH + 1)) ** 2, 0, None)
    kernel: NDArray[np.float64] = np.sinc(away) * np.i0(6.0 * np.sqrt(inside)) / np.i0(6.0)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return kernel


_INTERPOLATOR = _interpolator()


class PeakMeter:
    """Measures the peak of samples that arrive in blocks.

    All samples of a signal may miss its peaks: at a quarter of the sample rate by up to 3 dB. So
    the signal is interpolated around the greatest sample of each block. A peak can only be missed
    if its own samples are smaller than another's in its block.
    """

    def __init__(self) -> None:
        self._greatest = 0.0
        # The last samples, which are searched again together with those that follow.
        self._tail = np.zeros(0)

    def push(self, samples: NDArray[np.float64]) -> None:
        """Take the next samples [shape=(n,)]."""
        self._look(np.concatenate([self._tail, samples[: 2 * _REACH]]))
        self._look(samples)
        self._tail = np.concatenate([self._tail, samples[-2 * _REACH :]])[-2 * _REACH :]

    def finish(self) -> float:
        """Return the peak of all pushed samples."""
        return self._greatest

    def _look(self, samples: NDArray[np.float64]) -> None:
        if not samples.size:
            return
        # Maximum and minimum, to avoid an array of absolute values.
        highest, lowest = int(samples.argmax()), int(samples.argmin())
        at = highest if samples[highest] >= -samples[lowest] else lowest
        self._greatest = max(self._greatest, abs(float(samples[at])))
        if _REACH <= at < samples.size - _REACH:
            around = _INTERPOLATOR @ samples[at - _REACH : at + _REACH + 1]
            self._greatest = max(self._greatest, float(np.abs(around).max()))
