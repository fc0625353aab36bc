"""Overload of a recording: the steps in which its waveform is cut off.

A sound level meter indicates overload (IEC 61672-1:2013 section 5.11), since levels that include it
are too low. A file does not state that its recorder was overloaded, but the waveform shows it: many
crests end at the same amplitude, the ceiling, and are flat there. The ceiling is full scale or,
behind an overloaded preamplifier or after attenuation, anything below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Indices = NDArray[np.intp]

#: A band in which crests pile up is at least at this share of the greatest sample of its block, and
#: of the recent past. The past loses 0.5 % in each block, so that a click does not matter for long.
OF_GREATEST = 0.7
_FORGETTING = 0.995

#: Samples below this share of the greatest one of their block are not looked at.
_FLOOR = 0.6

#: Width of the classes of the histogram below the greatest sample, as a share of it, and their
#: number.
_CLASS = 0.002
_N_CLASSES = 200

#: Widths of the band around the ceiling in classes: from that of a lossy codec to the exact value.
_BANDS = (80, 40, 16, 6, 2)

#: Of each width, the bands that begin above `OF_GREATEST`, of which the next one is compared: their
#: first classes, those behind them, and those behind the next [shape=(n_widths, n_bands)].
_WIDTHS = np.array(_BANDS)[:, None]
_STARTS = np.arange(round((1 - OF_GREATEST) / _CLASS))
_IS_BAND = _STARTS + 2 * _WIDTHS < _N_CLASSES
_FIRST = np.where(_IS_BAND, _STARTS, 0)
_BEHIND, _BEHIND_NEXT = _FIRST + _WIDTHS, _FIRST + 2 * _WIDTHS

#: Least ratio of the number of samples in the band to that in the band below. The ratio is 2.41 for
#: sines, 1 / (sqrt(2) - 1) whatever the width, and about 0.5 for noise.
LEAST_RATIO = 2.8

#: Share of the band's samples that may be above the band: the overshoot of a codec or resampler.
_OVERSHOOT = 0.3

#: Least number of crests and of samples at the ceiling in a block, and of samples in each crest on
#: average. Fewer make false alarms of repeated knocks.
LEAST_CRESTS = 5
LEAST_SAMPLES = 60
_SAMPLES_PER_CREST = 2

#: Least number of samples at a ceiling that an earlier block had, and how near it must be.
_SAMPLES_AT_KNOWN = 3
_KNOWN_WITHIN = 0.03

#: Between two crests the waveform falls below this share of the ceiling.
_DIP = 0.8

#: Least length of a run of samples that equal the greatest one, and least number of runs in a block
#: below full scale. At full scale one is enough.
LEAST_RUN = 3
LEAST_RUNS = 3

#: Least number of shorter runs that has the same meaning: noise has crests of a single sample.
LEAST_TIPS = 6

#: Greatest step of the quantisation as a share of the ceiling, and of a band. The crests of coarser
#: samples are flat without being cut off.
_COARSEST = 0.01
_OF_BAND = 0.125

#: A greatest sample is at full scale if it is within a step of 1. The coarsest step is mu-law's.
_COARSEST_AT_FULL_SCALE = 0.035

#: Greatest share of equal neighbours below the ceiling: more come from repeated samples, or from a
#: generator of rectangular waves.
_HELD = 0.2

#: Number of samples from which the step of the quantisation is found.
_N_FOR_STEP = 4_096


@dataclass(slots=True)
class _Polarity:
    """The positive or the negative samples of a channel: what earlier blocks had."""

    sign: int
    greatest: float = 0.0
    ceiling: float | None = None


class OverloadMeter:
    """Finds the overloaded steps of a recording.

    Channels are judged separately, and so are positive and negative samples: a step is overloaded
    if either is, in any channel.

    Parameters
    ----------
    n_channels
        Number of channels of the blocks.
    """

    def __init__(self, *, n_channels: int) -> None:
        self._channels = [(_Polarity(1), _Polarity(-1)) for _ in range(n_channels)]

    def push(self, block: Samples, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Judge the next frames [shape=(n, n_channels)], full scale = 1, whose steps begin at
        ``starts``.

        Return whether each step is overloaded [shape=(n_steps,)]. Each block is judged as a whole,
        so the caller always divides a recording in the same way, into about a second each.
        """
        overloaded = np.zeros(starts.size, dtype=np.bool_)
        for index, polarities in enumerate(self._channels):
            samples = np.ascontiguousarray(block[:, index])
            for polarity in polarities:
                at = _cut_off(samples, polarity)
                if at.size:
                    overloaded[np.searchsorted(starts, at, side="right") - 1] = True
        return overloaded


def _cut_off(samples: Samples, polarity: _Polarity) -> Indices:
    """Return the indices of the samples of one polarity that are cut off."""
    greatest = float(samples.max() if polarity.sign > 0 else -samples.min())
    polarity.greatest = max(polarity.greatest * _FORGETTING, greatest)
    if greatest <= 0:
        return _none()
    floor = np.float32(_FLOOR * greatest)
    at = np.flatnonzero(samples > floor if polarity.sign > 0 else samples < -floor)
    if at.size < LEAST_RUN or at.size == samples.size:
        return _none()
    top = _Top(samples, at, np.abs(samples[at]), greatest)
    found = _equal_tips(top)
    if not found.size and greatest >= OF_GREATEST * polarity.greatest:
        found = _piled_up(top, polarity.ceiling)
    if found.size:
        polarity.ceiling = float(np.median(np.abs(samples[found])))
    return found


def _none() -> Indices:
    return np.zeros(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class _Top:
    """The samples of a block near its greatest one, of one polarity.

    ``at`` are their indices in ``samples``, ``values`` their magnitudes.
    """

    samples: Samples
    at: Indices
    values: Samples
    greatest: float

    def crests(self, low: float) -> int:
        """Return the number of crests that reach ``low``, between which the waveform dips."""
        dips = self.values < _DIP * low
        if _FLOOR * self.greatest <= _DIP * low:
            # Samples that are not in `values` dip as well.
            dips |= np.diff(self.at, prepend=self.at[0]) > 1
        crest_of = np.cumsum(dips)[self.values >= low]
        return 1 + int(np.count_nonzero(np.diff(crest_of)))

    def step(self) -> float:
        """Return the step of the quantisation as a share of the greatest sample."""
        values = np.unique(self.values[:_N_FOR_STEP])
        return float(np.diff(values).min()) / self.greatest if values.size > 1 else 1.0

    def is_periodic(self, low: float) -> bool:
        """Return whether the values below ``low`` repeat more often than their steps explain.

        Those of a tone whose period is a few samples are too few to judge the shape of its crests.
        """
        others = self.values[self.values < low][:_N_FOR_STEP]
        values = np.unique(others)
        if values.size < 2:
            return True
        n_levels = float(values[-1] - values[0]) / float(np.diff(values).min())
        return 2.0 * values.size < min(others.size, n_levels)

    def is_generated(self, step: float) -> bool:
        """Return whether the block is a rectangular wave, or has levels that are held.

        Such a wave has flat crests, and is also flat elsewhere, or has no samples elsewhere.
        """
        inner = np.abs(self.samples[1:]) <= _FLOOR * self.greatest
        inner &= self.samples[1:] != 0
        changes = np.abs(np.diff(self.samples)[inner])
        n_crossings = int(np.count_nonzero(np.diff(np.signbit(self.samples))))
        if changes.size <= 2 * n_crossings and 2 * changes.size < self.samples.size:
            return True
        moves = changes[changes > 0]
        # A slow sound in coarse steps has equal neighbours too, and moves by one step.
        is_slow = moves.size > 0 and float(np.median(moves)) <= 2.5 * step * self.greatest
        return not is_slow and moves.size < (1 - _HELD) * changes.size


def _equal_tips(top: _Top) -> Indices:
    """Return the samples that equal the greatest one, if they are cut off there."""
    is_equal = top.values == np.float32(top.greatest)
    n_equal = int(np.count_nonzero(is_equal))
    if n_equal < LEAST_RUN:
        return _none()
    others = top.values[~is_equal]
    step = top.greatest - (float(others.max()) if others.size else _FLOOR)
    # A smooth crest has more samples in the next nine steps than at its top.
    if 2 * np.count_nonzero(others >= top.greatest - 9.5 * step) >= n_equal:
        return _none()
    at: Indices = top.at[is_equal]
    lengths = np.diff(np.flatnonzero(np.diff(at, prepend=-2, append=-2) != 1))
    n_runs = int(np.count_nonzero(lengths >= LEAST_RUN))
    is_full_scale = top.greatest + min(step, _COARSEST_AT_FULL_SCALE) >= 1.0
    if n_runs < (1 if is_full_scale else LEAST_RUNS) and (
        lengths.size < LEAST_TIPS or top.is_periodic(top.greatest)
    ):
        return _none()
    finest = top.step()
    if (finest > _COARSEST and not is_full_scale) or top.is_generated(finest):
        return _none()
    return at


def _piled_up(top: _Top, known: float | None) -> Indices:
    """Return the samples in a band in which crests pile up; ``known`` is an earlier ceiling."""
    n_least = LEAST_SAMPLES if known is None else _SAMPLES_AT_KNOWN
    if top.values.size < n_least:
        return _none()
    depth = ((1 - top.values / np.float32(top.greatest)) * np.float32(1 / _CLASS)).astype(np.intp)
    until = np.zeros(_N_CLASSES + 1, dtype=np.intp)
    np.cumsum(np.bincount(depth, minlength=_N_CLASSES)[:_N_CLASSES], out=until[1:])
    n_above, n_until, n_below = until[_FIRST], until[_BEHIND], until[_BEHIND_NEXT]
    n_in = n_until - n_above
    is_piled = _IS_BAND & (n_in >= LEAST_RATIO * (n_below - n_until))
    is_piled &= (n_above <= _OVERSHOOT * n_in) & (n_in >= n_least)
    for band in np.flatnonzero(is_piled.any(axis=1)).tolist():
        width = _BANDS[band]
        best = int(np.argmax(n_in[band] * is_piled[band]))
        low = top.greatest * (1 - (best + width) * _CLASS)
        ceiling = low + 0.5 * width * _CLASS * top.greatest
        is_known = known is not None and abs(ceiling / known - 1) < _KNOWN_WITHIN
        n_best = int(n_in[band, best])
        if n_best < LEAST_SAMPLES and not is_known:
            continue
        n_crests = top.crests(low)
        if n_crests < (1 if is_known else LEAST_CRESTS) or n_best < _SAMPLES_PER_CREST * n_crests:
            continue
        step = top.step()
        if step > _OF_BAND * width * _CLASS or top.is_periodic(low):
            continue
        if not top.is_generated(step):
            return top.at[top.values >= low]
    return _none()
