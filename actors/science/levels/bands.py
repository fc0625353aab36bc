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

from actors.facts.third_octaves import FIRST_BAND, NOMINAL_HZ, exact_hz

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

#: Steps per second of band levels over time. More would take more storage, and be finer than the
#: responses of the lower bands.
BAND_STEPS_PER_S = 10


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


@lru_cache(maxsize=32)
def delays(rate_hz: int) -> dict[int, int]:
    """Return by how many frames the filters of each band delay sound, by band number.

    This is the centre of the energy of a band's impulse response. It is computed as the mean group
    delay, weighted by the squared response.
    """
    found = {}
    for number, stage in enumerate(stages(rate_hz)):
        for band, sections in stage.sections.items():
            hz = np.geomspace(exact_hz(band) / HALF_BAND**2, exact_hz(band) * HALF_BAND**2, 1_000)
            response = signal.freqz_sos(sections, worN=hz, fs=stage.rate_hz)[1]
            for before in stages(rate_hz)[:number]:
                response *= signal.freqz_sos(halving_filter(), worN=hz, fs=before.rate_hz)[1]
            phase, power = np.unwrap(np.angle(response)), np.abs(response) ** 2
            delay_s = -np.sum(np.diff(phase) * power[1:]) / np.sum(
                2 * np.pi * np.diff(hz) * power[1:]
            )
            found[band] = round(delay_s * rate_hz)
    return found


def step_starts(first: int, last: int, *, rate_hz: int) -> NDArray[np.int64]:
    """Return the first frames of the steps ``first`` to ``last``, inclusive.

    They are those of every tenth step of `levels.step_starts` [shape=(last-first+1,)].
    """
    steps = np.arange(first, last + 1, dtype=np.int64)
    starts: NDArray[np.int64] = (2 * steps * rate_hz + BAND_STEPS_PER_S) // (2 * BAND_STEPS_PER_S)
    return starts


def count_steps(n_frames: int, *, rate_hz: int) -> int:
    """Return the number of steps that begin within some frames."""
    return -(-BAND_STEPS_PER_S * (2 * n_frames - 1) // (2 * rate_hz))


def _upper_hz(band: int) -> float:
    return exact_hz(band) * HALF_BAND


def _band_pass(band: int, rate_hz: float) -> NDArray[np.float64]:
    edges_hz = [exact_hz(band) / HALF_BAND, exact_hz(band) * HALF_BAND]
    sections = signal.butter(_ORDER, edges_hz, btype="bandpass", fs=rate_hz, output="sos")
    return np.asarray(sections, dtype=np.float64)


class BandMeter:
    """Sums the energy of one channel in every band, block by block, in all and step by step.

    The filters delay the sound, those of low bands by tenths of a second. The output of a band is
    therefore assigned to the step that is earlier by its delay. Output for times before the
    recording counts in its first step, and what the filters put out after its end in the last.
    """

    def __init__(self, *, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._stages = stages(rate_hz)
        self._bands = bands_at(rate_hz)
        n_bands, n_halvings = len(self._bands), max(len(self._stages) - 1, 0)
        self._band_states = {n: np.zeros((_ORDER, 2)) for n in self._bands}
        self._halving_states = [np.zeros((len(halving_filter()), 2)) for _ in range(n_halvings)]
        # Whether the halving drops the next sample of a stage.
        self._drops = [False] * n_halvings
        # Of each band, in frames [shape=(n_bands, 1)]: a sample of its stage, and its delay.
        self._scales = np.ones((n_bands, 1), dtype=np.int64)
        self._delays = np.zeros((n_bands, 1), dtype=np.int64)
        for index, stage in enumerate(self._stages):
            for band in stage.sections:
                self._scales[band - FIRST_BAND] = 2**index
                self._delays[band - FIRST_BAND] = delays(rate_hz)[band]
        self._n_frames = 0
        self._energies = np.zeros(n_bands)
        # The energies of the open steps [shape=(n_bands, n_steps)], and the number of the first.
        self._open: NDArray[np.float64] = np.zeros((n_bands, 0))
        self._first = 0

    @property
    def energies(self) -> dict[int, float]:
        """Sum of squares of each band, in samples at the recording's own rate."""
        return dict(zip(self._bands, self._energies.tolist(), strict=True))

    def push(self, samples: NDArray[np.float64]) -> None:
        """Measure the next samples [shape=(n,)]."""
        bounds = self._bounds(samples.size)
        are_inside = bounds[:, :-1] < bounds[:, 1:]
        sums = np.zeros(are_inside.shape)
        for index, stage in enumerate(self._stages):
            if not samples.size:
                break
            for band, sections in stage.sections.items():
                inside, state = signal.sosfilt(sections, samples, zi=self._band_states[band])
                self._band_states[band] = settled(state)
                row = band - FIRST_BAND
                steps = are_inside[row].nonzero()[0]
                squares = np.multiply(inside, inside, out=inside)
                sums[row, steps] = np.add.reduceat(squares, bounds[row, steps])
            if index < len(self._halving_states):
                samples = self._halved(samples, index)
        sums *= self._scales
        self._energies += sums.sum(axis=1)
        sums[:, : self._open.shape[1]] += self._open
        self._open = sums

    def take_steps(self) -> NDArray[np.float64]:
        """Return and forget the energies of the finished steps [shape=(n_steps, n_bands)].

        They are sums of squares, in samples at the recording's own rate.
        """
        lag = int((self._delays + self._scales).max(initial=0))
        ends = self._starts(self._open.shape[1])[1:]
        n_finished = int(np.searchsorted(ends, self._n_frames - lag, side="right"))
        return self._taken(n_finished)

    def finish(self) -> NDArray[np.float64]:
        """Return the energies of the steps that were not taken, to the end, as `take_steps`."""
        n_steps = self._open.shape[1]
        if n_steps:
            self.push(np.zeros(self._rate_hz // 2))
            self._open[:, n_steps - 1] += self._open[:, n_steps:].sum(axis=1)
        return self._taken(n_steps)

    def _taken(self, n_steps: int) -> NDArray[np.float64]:
        taken, self._open = self._open[:, :n_steps].T, self._open[:, n_steps:]
        self._first += n_steps
        return taken

    def _bounds(self, n_frames: int) -> NDArray[np.int64]:
        """Count the next frames; return the bounds of the open steps in the samples of each band.

        The result [shape=(n_bands, n_steps+1)] begins with 0 and ends with the number of samples.
        """
        # Rounded up: a stage has the first frame and every second, fourth ... after it.
        begins = -(-self._n_frames // self._scales)
        self._n_frames += n_frames
        ends = -(-self._n_frames // self._scales)
        starts = self._starts(count_steps(self._n_frames, rate_hz=self._rate_hz) - self._first)
        bounds = -(-(starts + self._delays) // self._scales)
        bounds[:, 0] = 0
        clipped: NDArray[np.int64] = np.clip(bounds, begins, ends) - begins
        return clipped

    def _starts(self, n_steps: int) -> NDArray[np.int64]:
        """Return the starts of the open steps, and the end of the last one."""
        return step_starts(self._first, self._first + n_steps, rate_hz=self._rate_hz)

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
