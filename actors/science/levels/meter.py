"""A sound level meter for recordings that arrive in blocks of any size.

It follows IEC 61672-1: frequency weightings A, C and Z, time weightings F and S, peak C, and
overload. All levels are measured at the recording's own rate, with continuous filter states. Blocks
are first joined to a fixed length, so the result does not depend on the division into blocks.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science.levels import bands, channels, recorded
from actors.science.levels.band_history import BandHistory
from actors.science.levels.bands import BandMeter
from actors.science.levels.channel_meter import ChannelMeter
from actors.science.levels.levels import (
    STEPS_PER_S,
    LevelHistory,
    in_hundredths,
    step_starts,
)
from actors.science.levels.overload import OverloadMeter
from actors.science.levels.time_weighting import TimeWeighting
from actors.science.levels.totals import ChannelTotals, Totals
from actors.science.types import Hole

#: Blocks are one second, to amortise the cost of calls, but have at most this many samples over all
#: channels (32 MB), rounded down to whole steps. Where a step is not a whole number of frames,
#: they remain one second (200 MB for 64 channels at 768 kHz).
LARGEST_BLOCK = 8_000_000


class LevelMeter:
    """Measures the levels of a recording.

    Channels are weighted separately. The powers of the used channels are averaged, and their peak
    is the maximum; `Totals.channels` has the levels of every channel.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    n_channels
        Number of channels of the blocks.
    third_octaves
        Whether to measure third-octave bands too, which costs several times as much as all the
        rest.
    used
        Indices of the channels to average. Default: all.
    """

    def __init__(
        self,
        *,
        rate_hz: int,
        n_channels: int,
        third_octaves: bool = False,
        used: Sequence[int] | None = None,
    ) -> None:
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
        self._used = list(range(n_channels) if used is None else used)
        self._channels = [
            ChannelMeter(rate_hz=rate_hz, third_octaves=third_octaves and index in self._used)
            for index in range(n_channels)
        ]
        #: The A-weighted block of each channel, and the sums of products of any two, if there are.
        self._weighted = np.zeros((n_channels, n_frames), dtype=np.float32)
        self._products = np.zeros((n_channels, n_channels))
        self._times = TimeWeighting(rate_hz=rate_hz, n_frames=n_frames)
        self._overload = OverloadMeter(n_channels=len(self._used))
        self._n_frames = self._n_recorded = 0
        # The arrays of `LevelHistory`, as bytes: arrays of a second, or copies to join them, would
        # double the memory of a day.
        self._mean_squares, self._fast_maxima = bytearray(), bytearray()
        self._slow_maxima, self._c_peaks = bytearray(), bytearray()
        self._overloaded = bytearray()
        # That of `BandHistory`, and the number of its steps.
        self._bands, self._n_band_steps = bytearray(), 0

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
        peaks = [channel.finish() for channel in self._channels]
        self._keep_peaks([peaks[index] for index in self._used])
        self._keep_bands([each.finish() for each in self._band_meters()])
        return LevelHistory(
            rate_hz=self._rate_hz,
            n_frames=self._n_frames,
            mean_square=np.frombuffer(self._mean_squares, np.float32),
            fast_max=np.frombuffer(self._fast_maxima, np.float32),
            slow_max=np.frombuffer(self._slow_maxima, np.int16),
            c_peak=np.frombuffer(self._c_peaks, np.int16),
            overloaded=np.frombuffer(self._overloaded, np.bool_),
            holes=recorded.bounds_of(_holes_in(self.holes, 0, self._n_frames)),
        )

    def band_history(self) -> BandHistory | None:
        """Return the band levels over time, after `finish`; None if they were not measured."""
        meters = self._band_meters()
        if not meters:
            return None
        levels = np.frombuffer(self._bands, np.int16)
        shape = self._n_band_steps, len(meters[0].energies)
        return BandHistory(self._rate_hz, self._n_frames, levels.reshape(shape))

    def totals(self, *, bad: Sequence[int] = ()) -> Totals:
        """Return the levels of the whole recording, after `finish`.

        Channels with the indices ``bad`` count as silent, whatever was measured.
        """
        n_frames, times = self._n_recorded, self._times
        n_values = max(n_frames * len(self._used), 1)
        used = [self._channels[index] for index in self._used]
        of_bands = None
        if meters := self._band_meters():
            of_bands = {
                band: sum(each.energies[band] for each in meters) / n_values
                for band in meters[0].energies
            }
        return Totals(
            duration_s=n_frames / self._rate_hz,
            a_mean_square=sum(each.a_energy for each in used) / n_values,
            c_mean_square=sum(each.c_energy for each in used) / n_values,
            z_mean_square=sum(each.z_energy(n_frames) for each in used) / n_values,
            fast_max=times.fast_max,
            slow_max=times.slow_max,
            fast_min=None if math.isinf(times.fast_min) else times.fast_min,
            c_peak=max(each.c_peak for each in used),
            histogram=times.histogram,
            tick_s=times.tick_s,
            band_mean_squares=of_bands,
            channels=self._by_channel(bad),
            used=self._used,
        )

    def _by_channel(self, bad: Sequence[int]) -> list[ChannelTotals]:
        n_frames = max(self._n_recorded, 1)
        products = self._products.copy()
        if len(self._channels) == 1:
            products = np.array([[self._channels[0].a_energy]])
        products[bad, :] = products[:, bad] = 0.0
        found = channels.states(products, n_frames=n_frames)
        silence = ChannelTotals(
            a_mean_square=0.0,
            c_mean_square=0.0,
            z_mean_square=0.0,
            c_peak=0.0,
            state=channels.SILENT,
            other=None,
        )
        return [
            silence
            if index in bad
            else ChannelTotals(
                a_mean_square=channel.a_energy / n_frames,
                c_mean_square=channel.c_energy / n_frames,
                z_mean_square=channel.z_energy(n_frames) / n_frames,
                c_peak=channel.c_peak,
                state=state,
                other=other,
            )
            for index, (channel, (state, other)) in enumerate(
                zip(self._channels, found, strict=True)
            )
        ]

    def _measure(self, block: NDArray[np.float32]) -> None:
        holes = _holes_in(self.holes, self._n_frames, len(block)) if self.holes else []
        starts = self._steps[self._steps < len(block)]
        squares: NDArray[np.float64] | None = None
        peaks = []
        for index, channel in enumerate(self._channels):
            weighted, of_channel = channel.measure(block[:, index], starts, holes)
            if len(self._channels) > 1:
                self._weighted[index, : len(block)] = weighted
            if index in self._used:
                weighted *= weighted
                squares = weighted if squares is None else np.add(squares, weighted, out=squares)
                peaks.append(of_channel)
        assert squares is not None
        if len(self._channels) > 1:
            rows = self._weighted[:, : len(block)]
            self._products += rows @ rows.T
            squares /= len(self._used)
        self._keep_peaks(peaks)
        bounds = np.append(starts, len(block))
        if holes:
            bounds = recorded.frames_until(bounds, recorded.bounds_of(holes))
        lengths = np.diff(bounds)
        self._n_recorded += round(lengths.sum())
        mean_squares = np.add.reduceat(squares, starts) / np.maximum(lengths, 1)
        self._mean_squares += mean_squares.astype(np.float32).tobytes()
        fast, slow = self._times.push(squares, starts, holes)
        self._fast_maxima += fast.astype(np.float32).tobytes()
        self._slow_maxima += in_hundredths(slow).tobytes()
        self._overloaded += self._overload.push(block[:, self._used], starts).tobytes()
        self._n_frames += len(block)
        self._keep_bands([each.take_steps() for each in self._band_meters()])

    def _band_meters(self) -> list[BandMeter]:
        """Return those of the used channels; none if bands are not measured."""
        used = [self._channels[index] for index in self._used]
        return [each.bands for each in used if each.bands is not None]

    def _keep_bands(self, of_channels: Sequence[NDArray[np.float64]]) -> None:
        """Add the band energies of the steps that are finished in each used channel."""
        if not of_channels:
            return
        first, last = self._n_band_steps, self._n_band_steps + len(of_channels[0])
        bounds = bands.step_starts(first, last, rate_hz=self._rate_hz)
        lengths = np.diff(np.minimum(bounds, self._n_frames)) * len(self._used)
        self._bands += in_hundredths(np.sum(of_channels, axis=0) / lengths[:, None]).tobytes()
        self._n_band_steps = last

    def _keep_peaks(self, of_channels: Sequence[NDArray[np.float64]]) -> None:
        """Add the steps whose peaks are known: they are a step behind the other arrays."""
        self._c_peaks += in_hundredths(np.max(of_channels, axis=0) ** 2).tobytes()


def _holes_in(holes: Sequence[Hole], begin: int, n_frames: int) -> list[Hole]:
    """Return the holes in a block, relative to its begin; the first one may begin before it."""
    found: list[Hole] = []
    for hole in holes[bisect_right(holes, begin, key=lambda each: each.stop) :]:
        if hole.start >= begin + n_frames:
            break
        found.append(Hole(hole.start - begin, min(hole.stop - begin, n_frames), hole.kind))
    return found
