"""Third-octave band levels, IEC 61260-1:2014 class 1.

Midbands are the exact base-ten ones (1 kHz times powers of 10^0.1). Each band is a Butterworth
band-pass of order four between its band edges. Filters for a band far below the sample rate would
lose their precision, and would cost as much as any other. So the sample rate is halved repeatedly,
and every band is filtered at the lowest rate that still contains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

#: Nominal midbands in Hz by band number: band ``n`` has the exact midband 10^(n/10).
NOMINAL_HZ = {
    14: 25.0, 15: 31.5, 16: 40.0, 17: 50.0, 18: 63.0, 19: 80.0, 20: 100.0, 21: 125.0, 22: 160.0,
    23: 200.0, 24: 250.0, 25: 315.0, 26: 400.0, 27: 500.0, 28: 630.0, 29: 800.0, 30: 1000.0,
    31: 1250.0, 32: 1600.0, 33: 2000.0, 34: 2500.0, 35: 3150.0, 36: 4000.0, 37: 5000.0,
    38: 6300.0, 39: 8000.0, 40: 10000.0, 41: 12500.0, 42: 16000.0, 43: 20000.0,
}  # fmt: skip

#: From a midband to its band edges: half a third of an octave, base ten.
HALF_BAND = 10**0.05

#: A band is available if its upper edge is below this share of the sample rate. Above it the
#: bilinear transform steepens the upper edge beyond class 1.
HIGHEST_EDGE = 0.444

#: A band is filtered at a lower rate if its upper edge is below this share of that rate.
_LATER_EDGE = 0.404

#: The filter before each halving: its pass band includes every band of the lower rate, and aliases
#: into one of those are 85 dB down. The ripple adds up over the stages.
_HALVING_ORDER, _RIPPLE_DB, _STOP_DB, _PASS_EDGE = 8, 0.002, 85.0, 0.204

_ORDER = 4


@dataclass(frozen=True)
class FilterStage:
    """One sample rate, and the bands that are filtered at it.

    ``sections`` holds the second-order sections [shape=(4, 6)] of each band, by band number.
    """

    rate_hz: float
    sections: dict[int, NDArray[np.float64]]


def bands_at(rate_hz: int) -> list[int]:
    """Return the numbers of the bands available at a sample rate, from low to high."""
    return [n for n in NOMINAL_HZ if _upper_hz(n) < HIGHEST_EDGE * rate_hz]


def exact_hz(band: int) -> float:
    """Return the exact midband frequency of a band."""
    return float(10 ** (band / 10))


@lru_cache(maxsize=32)
def stages(rate_hz: int) -> tuple[FilterStage, ...]:
    """Return the stages of a sample rate with their bands; each halves the rate."""
    left = bands_at(rate_hz)
    found: list[FilterStage] = []
    stage_hz = float(rate_hz)
    while left:
        here = [n for n in left if _upper_hz(n) >= _LATER_EDGE * stage_hz / 2]
        found.append(FilterStage(stage_hz, {n: _band_pass(n, stage_hz) for n in here}))
        left = [n for n in left if n not in here]
        stage_hz /= 2
    return tuple(found)


@lru_cache(maxsize=1)
def halving_filter() -> NDArray[np.float64]:
    """Return second-order sections of the low-pass before a halving of the rate [shape=(4, 6)]."""
    sections = signal.ellip(
        _HALVING_ORDER, _RIPPLE_DB, _STOP_DB, 2 * _PASS_EDGE, btype="low", output="sos"
    )
    return np.asarray(sections, dtype=np.float64)


def _upper_hz(band: int) -> float:
    return exact_hz(band) * HALF_BAND


def _band_pass(band: int, rate_hz: float) -> NDArray[np.float64]:
    edges_hz = [exact_hz(band) / HALF_BAND, exact_hz(band) * HALF_BAND]
    sections = signal.butter(_ORDER, edges_hz, btype="bandpass", fs=rate_hz, output="sos")
    return np.asarray(sections, dtype=np.float64)


class BandMeter:
    """Sums the energy of one channel in every band, block by block."""

    def __init__(self, *, rate_hz: int) -> None:
        self._stages = stages(rate_hz)
        #: Sum of squares of each band, in samples at the recording's own rate.
        self.energies = dict.fromkeys(bands_at(rate_hz), 0.0)
        self._band_states = {n: np.zeros((_ORDER, 2)) for n in self.energies}
        n_halvings = max(len(self._stages) - 1, 0)
        self._halving_states = [np.zeros((len(halving_filter()), 2)) for _ in range(n_halvings)]
        # Whether the halving drops the next sample of a stage.
        self._drops = [False] * n_halvings

    def push(self, samples: NDArray[np.float64]) -> None:
        """Measure the next samples [shape=(n,)]."""
        for index, stage in enumerate(self._stages):
            if not samples.size:
                return
            for band, sections in stage.sections.items():
                inside, state = signal.sosfilt(sections, samples, zi=self._band_states[band])
                self._band_states[band] = settled(state)
                self.energies[band] += float(inside @ inside) * 2**index
            if index < len(self._halving_states):
                samples = self._halved(samples, index)

    def _halved(self, samples: NDArray[np.float64], index: int) -> NDArray[np.float64]:
        smooth, state = signal.sosfilt(halving_filter(), samples, zi=self._halving_states[index])
        self._halving_states[index] = settled(state)
        first = int(self._drops[index])
        self._drops[index] = (samples.size - first) % 2 == 1
        return np.ascontiguousarray(smooth[first::2])


def settled(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero the decayed values of a filter's state: subnormal numbers are many times slower."""
    state[np.abs(state) < 1e-100] = 0.0
    return state
