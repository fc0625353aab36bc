"""The time weightings F and S of IEC 61672-1, their extremes and their distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels.bands import settled
from actors.science.levels.totals import Histogram
from actors.science.types import Hole

#: Time constants of the time weightings F and S, IEC 61672-1:2013 section 5.8.
FAST_TAU_S = 0.125
SLOW_TAU_S = 1.0

#: Maximum interval between evaluations of the time weightings. F falls by 0.02 dB in between, so no
#: maximum is missed by more. The values are exact: every sample has its own weight.
LONGEST_TICK_S = 0.0005

#: Minimum and percentiles of F exclude this start-up time. F starts from silence; after eight time
#: constants the remaining error is below 0.002 dB.
START_UP_S = 8 * FAST_TAU_S


def recovery_s(hole_s: float) -> float:
    """Return the time after a hole of this length in which F rises again.

    F falls in the hole. The deficit then decays, to the same as after the start-up.
    """
    deficit = -math.expm1(-hole_s / FAST_TAU_S)
    return max(START_UP_S + FAST_TAU_S * math.log(deficit), 0.0)


class TimeWeighting:
    """Time weightings F and S of squared samples, at ticks: their extremes and their histogram.

    Between two ticks the squares are summed with their weights at the second one, for both
    weightings in one matrix product; the recursion then runs over ticks only.
    """

    def __init__(self, *, rate_hz: int, n_frames: int) -> None:
        longest = max(int(rate_hz * LONGEST_TICK_S), 1)
        self._tick = next(n for n in range(longest, 0, -1) if n_frames % n == 0)
        self.tick_s = self._tick / rate_hz
        age = np.arange(self._tick)[::-1, None]
        decay = np.exp(-1.0 / (rate_hz * np.array([FAST_TAU_S, SLOW_TAU_S])))
        self._weights = (1 - decay) * decay**age
        self._decays = decay**self._tick
        self._states = [np.zeros(1), np.zeros(1)]
        self._until_steady = math.ceil(START_UP_S / self.tick_s)
        self.fast_max = self.slow_max = 0.0
        self.fast_min = math.inf
        self.histogram = Histogram.of(np.zeros(0))

    def push(
        self,
        squares: NDArray[np.float64],
        starts: NDArray[np.int64],
        holes: Sequence[Hole] = (),
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Process squares [shape=(n,)]; return the greatest F and the greatest S in each step.

        Steps begin at ``starts``. A tick belongs to the step in which it ends. Minimum and
        percentiles exclude ``holes``, and the time after each in which F rises again.
        """
        n_whole = squares.size // self._tick
        if rest := squares.size % self._tick:
            # Only at the end of a recording, which is followed by silence.
            squares = np.concatenate([squares, np.zeros(self._tick - rest)])
        sums = squares.reshape(-1, self._tick) @ self._weights
        fast, slow = (self._weighted(sums[:, which], which) for which in (0, 1))
        steady = fast[:n_whole][self._is_steady(n_whole, holes)]
        if steady.size:
            self.fast_min = min(self.fast_min, float(steady.min()))
            self.histogram += Histogram.of(steady)
        first_ticks = np.minimum(starts // self._tick, fast.size - 1)
        fast_maxima: NDArray[np.float64] = np.maximum.reduceat(fast, first_ticks)
        slow_maxima: NDArray[np.float64] = np.maximum.reduceat(slow, first_ticks)
        self.fast_max = max(self.fast_max, float(fast_maxima.max()))
        self.slow_max = max(self.slow_max, float(slow_maxima.max()))
        return fast_maxima, slow_maxima

    def _is_steady(self, n_ticks: int, holes: Sequence[Hole]) -> NDArray[np.bool_] | slice:
        """Return which of the next ticks are neither in a hole nor in a start-up."""
        first = min(self._until_steady, n_ticks)
        if not holes:
            self._until_steady -= first
            return slice(first, n_ticks)
        is_steady = np.ones(n_ticks, dtype=np.bool_)
        is_steady[:first] = False
        for hole in holes:
            rises_s = recovery_s(hole.n_frames * self.tick_s / self._tick)
            until = math.ceil(hole.stop / self._tick + rises_s / self.tick_s)
            is_steady[max(hole.start, 0) // self._tick : until] = False
            self._until_steady = max(self._until_steady, until)
        self._until_steady = max(self._until_steady - n_ticks, 0)
        return is_steady

    def _weighted(self, sums: NDArray[np.float64], which: int) -> NDArray[np.float64]:
        levels, state = signal.lfilter(
            [1.0], [1.0, -self._decays[which]], sums, zi=self._states[which]
        )
        self._states[which] = settled(state)
        return np.asarray(levels, dtype=np.float64)
