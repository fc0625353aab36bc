"""The crests of a block of samples: their number, their runs, their likeness.

`overload` judges by them whether the waveform is cut off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Indices = NDArray[np.intp]

#: Samples below this share of the greatest one of their block are not looked at.
FLOOR = 0.6

#: Between two crests the waveform falls below this share of the ceiling.
_DIP = 0.8

#: Least typical difference between the samples beside a crest and those beside an earlier one, as a
#: share of the greatest sample. That of tones is 0 but for their noise.
LEAST_VARIETY = 0.02

#: Greatest number of crests in a period of a chord, and number of crests that are compared.
_LAGS = 8
_N_CRESTS = 256

#: Finest step of the quantisation that is looked for: finer ones are lost in 32-bit floats.
_FINEST = 2.0**-22

#: Greatest share of equal neighbours below the ceiling: more come from repeated samples, or from a
#: generator of rectangular waves.
_HELD = 0.2

#: Number of samples from which the step of the quantisation is found.
_N_FOR_STEP = 4_096

#: Greatest step of the quantisation as a share of the ceiling. The crests of coarser samples are
#: flat without being cut off.
COARSEST = 0.01


@dataclass(frozen=True, slots=True)
class Top:
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
        if FLOOR * self.greatest <= _DIP * low:
            # Samples that are not in `values` dip as well.
            dips |= np.diff(self.at, prepend=self.at[0]) > 1
        crest_of = np.cumsum(dips)[self.values >= low]
        return 1 + int(np.count_nonzero(np.diff(crest_of)))

    def step(self) -> float:
        """Return the least step between two values, as a share of the greatest sample."""
        steps = self._steps()
        return float(steps[0]) if steps.size else 1.0

    def grid(self) -> float:
        """Return the greatest step of which all steps between values are multiples.

        The values of a tone may be few and far apart, and their least step great. Coarse steps are
        not exact, since they were rounded to 16 bits.
        """
        steps = self._steps()
        coarse = _common_divisor(steps, within=0.05 * COARSEST)
        return coarse if coarse > COARSEST else _common_divisor(steps, within=_FINEST)

    def _steps(self) -> NDArray[np.float64]:
        values = np.unique(self.values[:_N_FOR_STEP]).astype(np.float64)
        return np.unique(np.diff(values)) / self.greatest

    def runs(self, chosen: NDArray[np.bool_]) -> tuple[Indices, Indices]:
        """Return the first and the last index of each run of the chosen samples.

        Runs at an edge of the block are left out: a neighbour is missing.
        """
        at = self.at[chosen]
        is_first = np.diff(at, prepend=-2) != 1
        first, last = at[is_first], at[np.roll(is_first, -1)]
        inside = (first > 0) & (last < self.samples.size - 1)
        return first[inside], last[inside]

    def are_alike(self, first: Indices, last: Indices) -> bool:
        """Return whether crests repeat the shape of those before, as those of tones and chords do.

        The two samples beside a crest of a tone have the sum ``2 cos((n + 1) w / 2) cos(d) A``. It
        hardly depends on the phase ``d``, so only crests of the same number ``n`` of samples are
        compared.
        """
        first, last = first[:_N_CRESTS], last[:_N_CRESTS]
        lengths = last - first
        if lengths.size < 2:
            return False
        lags = range(1, 1 + min(_LAGS, max(1, lengths.size // 4)))
        if min(np.median(np.abs(lengths[lag:] - lengths[:-lag])) for lag in lags) > 1:
            return False
        order = np.argsort(lengths, kind="stable")
        lengths = lengths[order]
        beside = (self.samples[first - 1] + self.samples[last + 1])[order]
        for lag in lags:
            is_same = lengths[lag:] == lengths[:-lag]
            differences = np.abs(beside[lag:] - beside[:-lag])[is_same]
            if differences.size and np.median(differences) < LEAST_VARIETY * self.greatest:
                return True
        return False

    def is_held(self, step: float) -> bool:
        """Return whether samples are repeated, so that crests are flat like everything else."""
        changes = self._inner_changes()
        moves = changes[changes > 0]
        # A slow sound in coarse steps has equal neighbours too, and moves by one step.
        is_slow = moves.size > 0 and float(np.median(moves)) <= 2.5 * step * self.greatest
        return not is_slow and moves.size < (1 - _HELD) * changes.size

    def is_rectangular(self) -> bool:
        """Return whether the block is a rectangular wave, which has no samples elsewhere."""
        n_changes = self._inner_changes().size
        n_crossings = int(np.count_nonzero(np.diff(np.signbit(self.samples))))
        return n_changes <= 2 * n_crossings and 2 * n_changes < self.samples.size

    def _inner_changes(self) -> Samples:
        inner = np.abs(self.samples[1:]) <= FLOOR * self.greatest
        inner &= self.samples[1:] != 0
        return np.abs(np.diff(self.samples)[inner])


def _common_divisor(numbers: NDArray[np.float64], *, within: float) -> float:
    """Return the greatest number of which all numbers are multiples, to within an error."""
    divisor = 0.0
    for number in numbers:
        rest = float(number)
        while rest > within:
            divisor, rest = rest, abs(math.remainder(divisor, rest))
        if divisor <= 2 * within:
            break
    return divisor
