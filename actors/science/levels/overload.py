"""Overload of a recording: the steps in which its waveform is cut off.

A sound level meter indicates overload (IEC 61672-1:2013 section 5.11), since levels that include it
are too low. A file does not state that its recorder was overloaded, but the waveform shows it: many
crests end at the same amplitude, the ceiling, and are flat there. The ceiling is full scale or,
behind an overloaded preamplifier or after attenuation, anything below.

A tone has crests of one amplitude as well. Two properties distinguish it: its crests are round, and
each has the shape of the one before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.levels.crests import COARSEST, FLOOR, Indices, Samples, Top

#: A band in which crests pile up is at least at this share of the greatest sample of its block, and
#: of the recent past. The past loses 0.5 % in each block, so that a click does not matter for long.
OF_GREATEST = 0.7
_FORGETTING = 0.995

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

#: Least length of a run of samples that equal the greatest one, and least number of such runs with
#: a kink at both ends in a block below full scale. At full scale one is enough.
LEAST_RUN = 3
LEAST_RUNS = 3

#: A run has a kink at an end if the waveform falls by more than this beside it, over half its
#: length, in steps of the quantisation. A round crest, a parabola, falls by four times as much over
#: twice the width: by four steps, or 9.5 with dither. A fall by this share of the greatest sample
#: is enough too: it exceeds four of the coarsest steps, which have no dither.
_KINK_STEPS = 9.5
_KINK = 0.2

#: Least number of shorter runs that have the same meaning: noise has crests of a single sample.
LEAST_TIPS = 6

#: Where a step is above `COARSEST`: the steps below the greatest sample in which others are
#: counted, and how many times as many equal it.
_COARSE_STEPS, _COARSE_RATIO = 1.5, 4

#: Greatest step of the quantisation as a share of a band of crests.
_OF_BAND = 0.125

#: A greatest sample is at full scale if it is within a step of 1. The coarsest step is mu-law's.
_COARSEST_AT_FULL_SCALE = 0.035


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
    floor = np.float32(FLOOR * greatest)
    at = np.flatnonzero(samples > floor if polarity.sign > 0 else samples < -floor)
    if at.size < LEAST_RUN or at.size == samples.size:
        return _none()
    top = Top(samples, at, np.abs(samples[at]), greatest)
    found = _equal_tips(top)
    if not found.size and greatest >= OF_GREATEST * polarity.greatest:
        found = _piled_up(top, polarity.ceiling)
    if found.size:
        polarity.ceiling = float(np.median(np.abs(samples[found])))
    return found


def _none() -> Indices:
    return np.zeros(0, dtype=np.intp)


def _equal_tips(top: Top) -> Indices:
    """Return the samples that equal the greatest one, if they are cut off there."""
    is_equal = top.values == np.float32(top.greatest)
    n_equal = int(np.count_nonzero(is_equal))
    if n_equal < LEAST_RUN:
        return _none()
    first, last = top.runs(is_equal)
    step = top.step()
    is_full_scale = top.greatest * (1 + min(step, _COARSEST_AT_FULL_SCALE)) >= 1.0
    if is_full_scale:
        step = top.grid()
    n_kinks = _count_kinks(top, first, last, step)
    if n_kinks < (1 if is_full_scale else LEAST_RUNS) and not _are_tips(top, first, last, step):
        return _none()
    if not is_full_scale and (step > COARSEST or top.is_rectangular()):
        return _none()
    if top.is_held(step):
        return _none()
    at: Indices = top.at[is_equal]
    return at


def _count_kinks(top: Top, first: Indices, last: Indices, step: float) -> int:
    """Return the number of runs at whose ends the waveform bends sharply."""
    is_run = last - first >= LEAST_RUN - 1
    first, last = first[is_run], last[is_run]
    half = (last - first) // 2
    sides = (
        top.samples[np.maximum(first - half, 0)],
        top.samples[np.minimum(last + half, top.samples.size - 1)],
    )
    least = top.greatest * (1 - min(_KINK_STEPS * step, _KINK))
    sign = np.sign(top.samples[first])
    return int(np.count_nonzero((sign * sides[0] < least) & (sign * sides[1] < least)))


def _are_tips(top: Top, first: Indices, last: Indices, step: float) -> bool:
    """Return whether so many crests that differ end at the greatest sample."""
    if first.size < LEAST_TIPS:
        return False
    # A smooth crest has more samples in the next nine steps than at its top. Of the coarse steps of
    # G.711, the greatest is as wide as the next, and has up to 2.7 times as many samples of a sine.
    n_steps, ratio = (_KINK_STEPS, 2) if step <= COARSEST else (_COARSE_STEPS, _COARSE_RATIO)
    n_equal = np.count_nonzero(top.values == np.float32(top.greatest))
    n_near = np.count_nonzero(top.values >= top.greatest * (1 - n_steps * step)) - n_equal
    return bool(ratio * n_near < n_equal) and not top.are_alike(first, last)


def _piled_up(top: Top, known: float | None) -> Indices:
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
        if step > _OF_BAND * width * _CLASS or top.are_alike(*top.runs(top.values >= low)):
            continue
        if not (top.is_held(step) or top.is_rectangular()):
            return top.at[top.values >= low]
    return _none()
