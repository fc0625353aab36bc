"""The levels of one channel of a recording."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels import priming, weighting
from actors.science.levels.bands import BandMeter, settled
from actors.science.levels.levels import STEPS_PER_S
from actors.science.levels.peak import PeakMeter
from actors.science.types import Hole


def _fill(samples: NDArray[np.float64], holes: Sequence[Hole], value: float) -> None:
    """Set the samples in holes to a value."""
    for hole in holes:
        samples[max(hole.start, 0) : hole.stop] = value


class ChannelMeter:
    """Measurements of one channel: weighted energies, the peak, and optionally bands."""

    def __init__(self, *, rate_hz: int, third_octaves: bool) -> None:
        self._rate_hz = rate_hz
        self._c_sections = weighting.c_weighting(rate_hz)
        # `lfilter` costs less per call than `sosfilt` with a single section.
        [section] = weighting.a_from_c(rate_hz)
        self._a_section = section[:3], section[3:]
        self._c_state = np.zeros((len(self._c_sections), 2))
        self._a_state = np.zeros(2)
        # Whether the filters run; not before the first samples, and the first after a hole.
        self._is_begun = False
        self._n_step = max(rate_hz // STEPS_PER_S, 1)
        # Set with the first block.
        self._offset: float | None = None
        self.a_energy = self.c_energy = 0.0
        self._energy = self._sum = 0.0
        self.c_peak = 0.0
        self._peak = PeakMeter()
        self.bands = BandMeter(rate_hz=rate_hz) if third_octaves else None

    def measure(
        self,
        samples: NDArray[np.float32],
        starts: NDArray[np.int64],
        holes: Sequence[Hole] = (),
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take the next samples [shape=(n,)], whose steps begin at ``starts``.

        Return them A-weighted [shape=(n,)], and the C peaks of the steps that are finished, as
        `PeakMeter.push`.
        """
        if self._offset is None:
            begins = holes[0].stop if holes and holes[0].start <= 0 else 0
            if begins < samples.size:
                self._offset = _resting_value(samples[begins:], n_step=self._n_step)
        flat = samples.astype(np.float64)
        if self._offset:
            flat -= self._offset
        _fill(flat, holes, 0.0)
        self._energy += float(flat @ flat)
        self._sum += float(flat.sum())
        if self.bands is not None:
            self.bands.push(flat)
        c_weighted, a_weighted = self._weighted(flat, holes)
        self.c_energy += float(c_weighted @ c_weighted)
        self.a_energy += float(a_weighted @ a_weighted)
        if holes:
            # Interpolation across the edge of a hole would exceed the samples.
            _fill(c_weighted, holes, math.nan)
        return a_weighted, self._kept(self._peak.push(c_weighted, starts))

    def _weighted(
        self, flat: NDArray[np.float64], holes: Sequence[Hole]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weigh samples with C and A; both are 0 in holes, after which the filters start again."""
        if not holes:
            return self._filtered(flat)
        c_weighted, a_weighted = np.zeros(flat.size), np.zeros(flat.size)
        begin = 0
        for start, stop in [*((hole.start, hole.stop) for hole in holes), (flat.size, flat.size)]:
            if begin < start:
                part = slice(begin, start)
                c_weighted[part], a_weighted[part] = self._filtered(flat[part])
            self._is_begun = self._is_begun and start == stop
            begin = max(begin, stop)
        return c_weighted, a_weighted

    def _filtered(
        self, flat: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the next samples with C and A weighting."""
        if not self._is_begun:
            self._is_begun = True
            self._c_state[:], self._a_state[:] = 0.0, 0.0
            past = priming.sound_before(flat, rate_hz=self._rate_hz)
            if past.size:
                self._filtered(past)
        c_weighted, self._c_state = signal.sosfilt(self._c_sections, flat, zi=self._c_state)
        a_weighted, self._a_state = signal.lfilter(*self._a_section, c_weighted, zi=self._a_state)
        settled(self._c_state)
        settled(self._a_state)
        return c_weighted, a_weighted

    def finish(self) -> NDArray[np.float64]:
        """Return the C peak of the last step, as `PeakMeter.finish`."""
        return self._kept(self._peak.finish())

    def _kept(self, peaks: NDArray[np.float64]) -> NDArray[np.float64]:
        self.c_peak = max(self.c_peak, float(peaks.max(initial=0.0)))
        return peaks

    def z_energy(self, n_frames: int) -> float:
        """Return the sum of squares without the constant part, which is an offset and not sound."""
        return max(self._energy - self._sum**2 / max(n_frames, 1), 0.0)


def _resting_value(samples: NDArray[np.float32], *, n_step: int) -> float:
    """Return the constant value that a channel is assumed to have before its first samples.

    A constant offset is not sound. It is estimated by the mean of the first block. The first sample
    alone would not do: in a recording that begins in the middle of a loud tone it is part of the
    sound. A recording that begins with a step of digital silence has no offset, whatever follows.
    """
    return float(samples.mean(dtype=np.float64)) if samples[:n_step].any() else 0.0
