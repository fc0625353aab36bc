"""A sound level meter for recordings that arrive in blocks of any size.

It follows IEC 61672-1: frequency weightings A, C and Z, time weightings F and S, peak C. All levels
are measured at the recording's own rate, with continuous filter states. Blocks are first joined to
a fixed length, so the result does not depend on the division into blocks.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels import weighting
from actors.science.levels.bands import BandMeter, settled
from actors.science.levels.levels import STEPS_PER_S, LevelHistory, step_starts
from actors.science.levels.peak import PeakMeter
from actors.science.levels.totals import Histogram, Totals
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

#: Blocks are one second, to amortise the cost of calls, but have at most this many samples over all
#: channels (32 MB), rounded down to whole steps.
LARGEST_BLOCK = 8_000_000

#: The powers of unrelated channels add up in their sum. If its power is below this share of that,
#: channels cancel each other: two of the same level have a correlation below -0.5.
CANCELLED_SHARE = 0.5


class LevelMeter:
    """Measures the levels of a recording.

    Channels are weighted separately and averaged as powers; the peak is the maximum over channels.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    n_channels
        Number of channels of the blocks.
    third_octaves
        Whether to measure third-octave bands too, which costs several times as much as all the
        rest.
    """

    def __init__(self, *, rate_hz: int, n_channels: int, third_octaves: bool = False) -> None:
        self._rate_hz = rate_hz
        n_steps = STEPS_PER_S
        if rate_hz % STEPS_PER_S == 0:
            fitting = LARGEST_BLOCK * STEPS_PER_S // (rate_hz * n_channels)
            n_steps = min(max(fitting, 1), STEPS_PER_S)
        n_frames = rate_hz * n_steps // STEPS_PER_S
        self._block = np.zeros((n_frames, n_channels), dtype=np.float32)
        self._n_waiting = 0
        # Starts of the steps in a block, which is a whole number of steps.
        self._steps = step_starts(0, n_steps, rate_hz=rate_hz)
        self._channels = [
            _Channel(rate_hz=rate_hz, third_octaves=third_octaves) for _ in range(n_channels)
        ]
        self._times = TimeWeighting(rate_hz=rate_hz, n_frames=n_frames)
        self._n_frames = self._n_excluded = 0
        self._mix_energy = 0.0
        self._mean_squares: list[NDArray[np.float32]] = []
        self._fast_maxima: list[NDArray[np.float32]] = []

        #: The holes of all frames that were pushed: they count in no average or distribution.
        self.holes: Sequence[Hole] = ()

    def push(self, block: NDArray[np.float32]) -> None:
        """Measure the next frames [shape=(n, n_channels)], full scale = 1.

        Raises
        ------
        ValueError
            If the block has another number of channels.
        """
        n_block, n_channels = self._block.shape
        if block.ndim != 2 or block.shape[1] != n_channels:
            raise ValueError(f"a block has the shape (n, {n_channels})")
        while len(block):
            taken = block[: n_block - self._n_waiting]
            self._block[self._n_waiting : self._n_waiting + len(taken)] = taken
            self._n_waiting += len(taken)
            block = block[len(taken) :]
            if self._n_waiting == n_block:
                self._measure(self._block)
                self._n_waiting = 0

    def finish(self) -> LevelHistory:
        """Return the levels of all pushed blocks; do not push any more afterwards."""
        if self._n_waiting:
            self._measure(self._block[: self._n_waiting])
            self._n_waiting = 0
        nothing = [np.zeros(0, dtype=np.float32)]
        return LevelHistory(
            rate_hz=self._rate_hz,
            n_frames=self._n_frames,
            mean_square=np.concatenate(self._mean_squares or nothing),
            fast_max=np.concatenate(self._fast_maxima or nothing),
        )

    def totals(self) -> Totals:
        """Return the levels of the whole recording, after `finish`."""
        n_frames = self._n_frames - self._n_excluded
        n_values = max(n_frames * len(self._channels), 1)
        channels, times = self._channels, self._times
        of_bands = None
        if channels[0].bands is not None:
            energies = [each.bands.energies for each in channels if each.bands is not None]
            of_bands = {
                band: sum(each[band] for each in energies) / n_values for band in energies[0]
            }
        return Totals(
            duration_s=n_frames / self._rate_hz,
            a_mean_square=sum(each.a_energy for each in channels) / n_values,
            c_mean_square=sum(each.c_energy for each in channels) / n_values,
            z_mean_square=sum(each.z_energy(n_frames) for each in channels) / n_values,
            fast_max=times.fast_max,
            slow_max=times.slow_max,
            fast_min=None if math.isinf(times.fast_min) else times.fast_min,
            c_peak=max(each.peak.finish() for each in channels),
            histogram=times.histogram,
            tick_s=times.tick_s,
            band_mean_squares=of_bands,
            lone_channel=self._lone_channel(),
        )

    def _lone_channel(self) -> int | None:
        """Return the index of the loudest channel if channels cancel each other in their mean."""
        energies = [each.a_energy for each in self._channels]
        if self._mix_energy >= CANCELLED_SHARE * sum(energies):
            return None
        return int(np.argmax(energies))

    def _measure(self, block: NDArray[np.float32]) -> None:
        holes = _holes_in(self.holes, self._n_frames, len(block)) if self.holes else []
        self._n_excluded += sum(hole.stop - max(hole.start, 0) for hole in holes)
        mix = self._channels[0].measure(block[:, 0], holes)
        squares = mix * mix
        for index, channel in enumerate(self._channels[1:], start=1):
            weighted = channel.measure(block[:, index], holes)
            mix += weighted
            squares += np.multiply(weighted, weighted, out=weighted)
        # A-weighting is linear: the weighted mix is the sum of the weighted channels.
        self._mix_energy += float(mix @ mix)
        squares /= len(self._channels)
        starts = self._steps[self._steps < len(block)]
        lengths = np.diff(starts, append=len(block))
        sums = np.add.reduceat(squares, starts)
        self._mean_squares.append((sums / lengths).astype(np.float32))
        self._fast_maxima.append(self._times.push(squares, starts, holes).astype(np.float32))
        self._n_frames += len(block)


def lone_channel(
    blocks: Iterable[NDArray[np.float32]], *, rate_hz: int, n_channels: int
) -> int | None:
    """Return the channel to analyse alone, as `Totals.lone_channel` of the same blocks."""
    if n_channels == 1:
        return None
    meter = LevelMeter(rate_hz=rate_hz, n_channels=n_channels)
    for block in blocks:
        meter.push(block)
    meter.finish()
    return meter.totals().lone_channel


def _holes_in(holes: Sequence[Hole], begin: int, n_frames: int) -> list[Hole]:
    """Return the holes in a block, relative to its begin; the first one may begin before it."""
    found: list[Hole] = []
    for hole in holes[bisect_right(holes, begin, key=lambda each: each.stop) :]:
        if hole.start >= begin + n_frames:
            break
        found.append(Hole(hole.start - begin, min(hole.stop - begin, n_frames), hole.kind))
    return found


class _Channel:
    """Measurements of one channel: weighted energies, the peak, and optionally bands."""

    def __init__(self, *, rate_hz: int, third_octaves: bool) -> None:
        self._c_sections = weighting.c_weighting(rate_hz)
        self._a_section = weighting.a_from_c(rate_hz)
        self._c_state = np.zeros((len(self._c_sections), 2))
        self._a_state = np.zeros((len(self._a_section), 2))
        self._n_step = max(rate_hz // STEPS_PER_S, 1)
        # Set with the first block.
        self._offset: float | None = None
        self.a_energy = self.c_energy = 0.0
        self._energy = self._sum = 0.0
        self.peak = PeakMeter()
        self.bands = BandMeter(rate_hz=rate_hz) if third_octaves else None

    def measure(
        self, samples: NDArray[np.float32], holes: Sequence[Hole] = ()
    ) -> NDArray[np.float64]:
        """Take the next samples [shape=(n,)]; return them A-weighted [shape=(n,)]."""
        if self._offset is None:
            begins = holes[0].stop if holes and holes[0].start <= 0 else 0
            if begins < samples.size:
                self._offset = _resting_value(samples[begins:], n_step=self._n_step)
        flat = np.subtract(samples, self._offset or 0.0, dtype=np.float64)
        for hole in holes:
            # At rest, so that the edges of a hole are no clicks.
            flat[max(hole.start, 0) : hole.stop] = 0.0
        self._energy += float(flat @ flat)
        self._sum += float(flat.sum())
        if self.bands is not None:
            self.bands.push(flat)
        weighted, state = signal.sosfilt(self._c_sections, flat, zi=self._c_state)
        self._c_state = settled(state)
        self.c_energy += float(weighted @ weighted)
        self.peak.push(weighted)
        weighted, state = signal.sosfilt(self._a_section, weighted, zi=self._a_state)
        self._a_state = settled(state)
        self.a_energy += float(weighted @ weighted)
        return np.asarray(weighted, dtype=np.float64)

    def z_energy(self, n_frames: int) -> float:
        """Return the sum of squares without the constant part, which is an offset and not sound."""
        return max(self._energy - self._sum**2 / max(n_frames, 1), 0.0)


def _resting_value(samples: NDArray[np.float32], *, n_step: int) -> float:
    """Return the constant value that a channel is assumed to have before its first samples.

    Filters start from zero, so a constant offset would be a step at the first sample, an audible
    click. The offset is estimated by the mean of the first block. The first sample alone would not
    do: in a recording that begins in the middle of a loud tone it is part of the sound, and
    subtracting it would add an offset (6 dB of C peak). A recording that begins with a step of
    digital silence has no offset, whatever follows.
    """
    return float(samples.mean(dtype=np.float64)) if samples[:n_step].any() else 0.0


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
    ) -> NDArray[np.float64]:
        """Process squares [shape=(n,)]; return the greatest F in each step.

        Steps begin at ``starts``. A tick belongs to the step in which it ends. Minimum and
        percentiles exclude ``holes``, and the time after each in which F rises again.
        """
        n_whole = squares.size // self._tick
        if rest := squares.size % self._tick:
            # Only at the end of a recording, which is followed by silence.
            squares = np.concatenate([squares, np.zeros(self._tick - rest)])
        sums = squares.reshape(-1, self._tick) @ self._weights
        fast, slow = (self._weighted(sums[:, which], which) for which in (0, 1))
        self.fast_max = max(self.fast_max, float(fast.max()))
        self.slow_max = max(self.slow_max, float(slow.max()))
        steady = fast[:n_whole][self._is_steady(n_whole, holes)]
        if steady.size:
            self.fast_min = min(self.fast_min, float(steady.min()))
            self.histogram += Histogram.of(steady)
        first_ticks = np.minimum(starts // self._tick, fast.size - 1)
        maxima: NDArray[np.float64] = np.maximum.reduceat(fast, first_ticks)
        return maxima

    def _is_steady(self, n_ticks: int, holes: Sequence[Hole]) -> NDArray[np.bool_] | slice:
        """Return which of the next ticks are neither in a hole nor in a start-up."""
        first = min(self._until_steady, n_ticks)
        if not holes:
            self._until_steady -= first
            return slice(first, n_ticks)
        is_steady = np.ones(n_ticks, dtype=np.bool_)
        is_steady[:first] = False
        for hole in holes:
            # F falls in the hole. What it lacks then decays, to the same as after the start-up.
            lacks = -math.expm1(-hole.n_frames * self.tick_s / self._tick / FAST_TAU_S)
            recovery_s = max(START_UP_S + FAST_TAU_S * math.log(lacks), 0.0)
            until = math.ceil(hole.stop / self._tick + recovery_s / self.tick_s)
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
