"""Overload and under-range of a recording: where its levels are bounds instead of values.

IEC 61672-1:2013 sections 5.11 and 5.12. Overload is measured; under-range is where the self-noise
of the instrument, which its user states, raises the levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actors.science.levels.levels import STEP_S, STEPS_PER_S, LevelHistory

#: Greatest error of a level that is in range: the limit of level linearity errors of class 1, IEC
#: 61672-1:2013 section 5.6. Self-noise raises a level by this much at 7.7 dB above it.
LARGEST_ERROR_DB = 0.8
_OVER_NOISE_DB = -10 * math.log10(1 - 10 ** (-LARGEST_ERROR_DB / 10))

#: Tolerance of times of events in steps: they are rounded.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class OverloadedTime:
    """The overloaded part of a recording: its length, and its start if there is any."""

    total_s: float
    first_s: float | None


def overloaded_time(levels: LevelHistory) -> OverloadedTime | None:
    """Return the overloaded part of a recording; ``None`` if it was not measured."""
    if levels.overloaded is None:
        return None
    first_s = int(levels.overloaded.argmax()) * STEP_S if levels.overloaded.any() else None
    total = float(levels.step_frames()[levels.overloaded].sum())
    return OverloadedTime(total / levels.rate_hz, first_s)


def is_overloaded(levels: LevelHistory, start_s: float, end_s: float) -> bool | None:
    """Return whether a step in an interval is overloaded; ``None`` if it was not measured."""
    if levels.overloaded is None:
        return None
    first = math.floor(start_s * STEPS_PER_S + _ROUNDING)
    last = math.ceil(end_s * STEPS_PER_S - _ROUNDING)
    return bool(levels.overloaded[max(first, 0) : max(last, 0)].any())


def overloaded_steps(levels: LevelHistory, *, step_s: float) -> NDArray[np.float64] | None:
    """Return the overloaded seconds of each second or minute; ``None`` if not measured."""
    if levels.overloaded is None:
        return None
    lengths = levels.step_frames() * levels.overloaded
    return levels.sums_of(lengths, step_s=step_s) / levels.rate_hz


class OverloadShares(NamedTuple):
    """The overloaded shares of time and of A-weighted energy, on a grid [shape=(n_steps,)]."""

    time: NDArray[np.float64]
    energy: NDArray[np.float64]


def overload_on_grid(
    levels: LevelHistory, *, step_s: float, lead_s: float
) -> OverloadShares | None:
    """Return the overloaded shares on the grid of `LevelHistory.on_grid`.

    The shares are those of the recorded part of a step. ``None`` if overload was not measured.
    """
    if levels.overloaded is None:
        return None
    mean = partial(levels.mean_on_grid, step_s=step_s, lead_s=lead_s)
    whole, part = mean(levels.mean_square), mean(levels.mean_square * levels.overloaded)
    energy = np.divide(part, whole, out=np.zeros(whole.size), where=whole > 0)
    return OverloadShares(mean(levels.overloaded.astype(np.float32)), energy)


def least_in_range_db(noise_floor_db: float) -> float:
    """Return the lowest level that self-noise raises by at most `LARGEST_ERROR_DB`.

    The energies of sound and noise add up, so the level ``L`` of both is too high by ``-10 lg(1 -
    10^(-(L - N) / 10))`` for the noise floor ``N``.
    """
    return noise_floor_db + _OVER_NOISE_DB
