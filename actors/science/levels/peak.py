"""The greatest amplitude of a signal, including values between its samples."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
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
    """Measures the peak of each step of samples that arrive in blocks.

    All samples of a signal may miss its peaks: at a quarter of the sample rate by up to 3 dB. So
    the signal is interpolated around the greatest sample of each step. A peak can only be missed
    if its own samples are smaller than another's in its step. The first and the last `_REACH`
    samples of a recording are not interpolated.

    The last step of a block is held back until its next samples have come.
    """

    def __init__(self) -> None:
        # The step that is held back, up to `_REACH` samples before it, and where it begins in them.
        self._held: NDArray[np.float64] | None = None
        self._start = 0

    def push(self, samples: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Take the next samples [shape=(n,)], whose steps begin at ``starts``; NaN is not recorded.

        Return the peaks of the steps that are finished: the one held back, and all but the last of
        these.
        """
        bounds = np.append(starts, samples.size)
        if self._held is not None:
            bounds = np.append(self._start, bounds + self._held.size)
            samples = np.concatenate([self._held, samples])
        first = max(int(bounds[-2]) - _REACH, 0)
        self._held, self._start = samples[first:].copy(), int(bounds[-2]) - first
        return _peaks(samples, bounds[:-1])

    def finish(self) -> NDArray[np.float64]:
        """Return the peak of the step that was held back, if there are any samples."""
        if self._held is None:
            return np.zeros(0)
        return _peaks(self._held, np.array([self._start, self._held.size]))


def _peaks(samples: NDArray[np.float64], bounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the peak between each bound and the next [shape=(n_bounds-1,)].

    The distances of the bounds differ by one at most.
    """
    if bounds.size < 2:
        return np.zeros(0)
    at = _greatest(samples, bounds)
    peaks = np.abs(samples[at])
    if np.isnan(peaks).any():
        recorded = np.nan_to_num(samples)
        at = _greatest(recorded, bounds)
        peaks = np.abs(recorded[at])
    inside = (at >= _REACH) & (at < samples.size - _REACH)
    if inside.any():
        around = samples[at[inside, None] + np.arange(-_REACH, _REACH + 1)]
        between = np.abs(around @ _INTERPOLATOR.T).max(axis=1)
        # Beside NaN nothing is interpolated.
        peaks[inside] = np.fmax(peaks[inside], between)
    return peaks


def _greatest(samples: NDArray[np.float64], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the greatest amplitude between each bound and the next; of NaN if any."""
    starts, lengths = bounds[:-1], np.diff(bounds)
    shortest = int(lengths.min())
    if lengths.max() == shortest:
        steps = samples[bounds[0] : bounds[-1]].reshape(-1, shortest)
    else:
        steps = sliding_window_view(samples, shortest)[starts]
    # Maximum and minimum, to avoid an array of absolute values. The last sample is for longer
    # steps, which are not in `steps` as a whole.
    places = np.stack(
        [starts + steps.argmax(axis=1), starts + steps.argmin(axis=1), bounds[1:] - 1]
    )
    which = np.abs(samples[places]).argmax(axis=0)
    found: NDArray[np.int64] = places[which, np.arange(starts.size)]
    return found
