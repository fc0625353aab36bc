"""Sound levels of a recording, measured at its own rate with filter state carried on.

All levels are A-weighted and in dB re digital full scale: an rms of 1.0 is 0 dB, so a full-scale
sine is -3.01 dB. They become sound pressure levels by adding the calibration of the microphone.

Levels taken after resampling to 16 kHz fail IEC 61672-1 class 1 above 6 kHz, hence the native
rate. At 44.1 kHz and above the filter keeps class 1 in every row below Nyquist; at lower rates
the bilinear transform bends the response down near Nyquist.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.errors import ScienceError

#: The grid on which levels are kept. Finer costs memory, coarser blurs the ends of events.
STEP_S = 0.1

#: Steps a second: `STEP_S` as a whole number, so that the grid is exact.
STEPS_PER_S = 10

#: Poles of the A-weighting in Hz, IEC 61672-1:2013 annex E.
A_POLES_HZ = (20.598997, 107.65265, 737.86223, 12194.217)

#: Time constant of the fast time weighting, IEC 61672-1:2013 section 5.8.
FAST_TAU_S = 0.125

#: Mean squares below this (-200 dB) are digital silence. What is fainter is a filter ringing out.
SILENCE = 1e-20

#: Frames that are filtered at a time. Small enough to stay in the cache, and long silence cannot
#: let the filter state sink into slow subnormal numbers in the middle of a block.
_BLOCK_FRAMES = 32_768

_MAGIC = b"CLLV"
_HEADER = struct.Struct("<4sHHIQI")
_VERSION = 1


class LevelDataError(ScienceError):
    """The stored levels are damaged."""

    code = "bad-levels"


@lru_cache(maxsize=32)
def a_weighting(rate_hz: int) -> NDArray[np.float64]:
    """Second-order sections of the A-weighting [shape=(3, 6)] at a sample rate.

    The analogue filter of IEC 61672-1:2013 annex E (two poles each at the first and the last of
    `A_POLES_HZ`, one at each of the others, four zeros at 0) by the bilinear transform, with a
    gain of exactly one at 1 kHz.
    """
    low, second, third, high = (2 * math.pi * pole_hz for pole_hz in A_POLES_HZ)
    analogue_poles = -np.array([low, low, second, third, high, high])
    zeros, poles, gain = signal.bilinear_zpk(np.zeros(4), analogue_poles, 1.0, fs=rate_hz)
    _, at_1khz = signal.freqz_zpk(zeros, poles, gain, worN=[1000.0], fs=rate_hz)
    sections = signal.zpk2sos(zeros, poles, gain / np.abs(at_1khz[0]))
    return np.asarray(sections, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class LevelSeries:
    """The levels of a recording, in steps of `STEP_S`.

    Attributes
    ----------
    rate_hz, n_frames
        Rate and length of the recording. Step ``k`` covers the frames from
        ``step_start(k, rate_hz)`` to the next step's start; the last may be shorter.
    mean_square [shape=(n_steps,)]
        A-weighted mean square, averaged over channels, full scale = 1.
    fast_max [shape=(n_steps,)]
        Greatest fast-weighted mean square in the step.
    """

    rate_hz: int
    n_frames: int
    mean_square: NDArray[np.float32]
    fast_max: NDArray[np.float32]

    @property
    def duration_s(self) -> float:
        """How long the recording is, in seconds."""
        return self.n_frames / self.rate_hz

    def laeq_db(self, start_s: float = 0.0, end_s: float | None = None) -> float | None:
        """Equivalent continuous A-weighted level over ``[start_s, end_s)``, dB re full scale.

        A step that the stretch covers in part counts by that part. ``None`` for digital silence
        and where there is no audio.
        """
        first, last, weights = self._steps(start_s, end_s)
        total = float(weights.sum())
        if total <= 0:
            return None
        return _to_db(float(weights @ self.mean_square[first:last].astype(np.float64)) / total)

    def lafmax_db(self, start_s: float = 0.0, end_s: float | None = None) -> float | None:
        """Greatest A- and fast-weighted level in the steps of ``[start_s, end_s)``, dB re full
        scale. ``None`` for digital silence and where there is no audio.
        """
        first, last, weights = self._steps(start_s, end_s)
        touched = self.fast_max[first:last][weights > 0]
        return _to_db(float(touched.max())) if touched.size else None

    def to_bytes(self) -> bytes:
        """A small header and the two arrays as little-endian float32."""
        header = _HEADER.pack(
            _MAGIC, _VERSION, STEPS_PER_S, self.rate_hz, self.n_frames, self.mean_square.size
        )
        return header + b"".join(
            part.astype("<f4").tobytes() for part in (self.mean_square, self.fast_max)
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> LevelSeries:
        """Read back what `to_bytes` wrote.

        Raises
        ------
        LevelDataError
            When the bytes are anything else.
        """
        if len(data) < _HEADER.size:
            raise LevelDataError
        magic, version, steps_per_s, rate_hz, n_frames, n_steps = _HEADER.unpack_from(data)
        if (magic, version, steps_per_s) != (_MAGIC, _VERSION, STEPS_PER_S) or rate_hz == 0:
            raise LevelDataError
        if len(data) != _HEADER.size + 8 * n_steps:
            raise LevelDataError
        arrays = np.frombuffer(data, dtype="<f4", offset=_HEADER.size).astype(np.float32)
        return cls(rate_hz, n_frames, arrays[:n_steps], arrays[n_steps:])

    def _steps(self, start_s: float, end_s: float | None) -> tuple[int, int, NDArray[np.float64]]:
        """First step, step past the last, and the frames of each in the stretch."""
        start = min(max(round(start_s * self.rate_hz), 0), self.n_frames)
        end = self.n_frames if end_s is None else round(end_s * self.rate_hz)
        end = min(max(end, start), self.n_frames)
        first = max(start * STEPS_PER_S // self.rate_hz - 1, 0)
        last = min(end * STEPS_PER_S // self.rate_hz + 2, self.mean_square.size)
        bounds = step_starts(first, last, rate_hz=self.rate_hz)
        inside = np.clip(bounds, start, end)
        return first, last, np.diff(inside).astype(np.float64)


class LevelMeter:
    """Measures the levels of a recording that comes in blocks of any size.

    Channels are weighted one by one and averaged as powers. The time weighting is evaluated at
    every sample and starts from silence.

    Parameters
    ----------
    rate_hz
        Sample rate of the blocks.
    n_channels
        Channels of the blocks.
    """

    def __init__(self, *, rate_hz: int, n_channels: int) -> None:
        self._rate_hz = rate_hz
        self._n_channels = n_channels
        self._sections = a_weighting(rate_hz)
        self._weighting_state = np.zeros((len(self._sections), n_channels, 2))
        self._decay = math.exp(-1.0 / (rate_hz * FAST_TAU_S))
        self._fast_state = np.zeros(1)
        self._n_frames = 0
        # The step that is being filled: its sum of squares and its greatest fast level.
        self._open_sum = 0.0
        self._open_max = 0.0
        self._mean_squares: list[NDArray[np.float32]] = []
        self._fast_maxima: list[NDArray[np.float32]] = []

    def push(self, block: NDArray[np.float32]) -> None:
        """Measure the next frames [shape=(n, n_channels)], full scale = 1.

        Raises
        ------
        ValueError
            When the block has another number of channels.
        """
        if block.ndim != 2 or block.shape[1] != self._n_channels:
            raise ValueError(f"a block has the shape (n, {self._n_channels})")
        for first in range(0, len(block), _BLOCK_FRAMES):
            self._push(block[first : first + _BLOCK_FRAMES])

    def finish(self) -> LevelSeries:
        """The levels of all that was pushed; the meter is not used again afterwards."""
        step = self._n_frames * STEPS_PER_S // self._rate_hz
        while step_start(step, rate_hz=self._rate_hz) > self._n_frames:
            step -= 1
        started = step_start(step, rate_hz=self._rate_hz)
        if started < self._n_frames:
            mean = self._open_sum / (self._n_frames - started)
            self._mean_squares.append(np.array([mean], dtype=np.float32))
            self._fast_maxima.append(np.array([self._open_max], dtype=np.float32))
        nothing = [np.zeros(0, dtype=np.float32)]
        return LevelSeries(
            rate_hz=self._rate_hz,
            n_frames=self._n_frames,
            mean_square=np.concatenate(self._mean_squares or nothing),
            fast_max=np.concatenate(self._fast_maxima or nothing),
        )

    def _push(self, block: NDArray[np.float32]) -> None:
        # Channels come first so that each is one contiguous run for the filter.
        channels = np.ascontiguousarray(block.T, dtype=np.float64)
        weighted, state = signal.sosfilt(self._sections, channels, zi=self._weighting_state)
        state[np.abs(state) < 1e-100] = 0.0
        self._weighting_state = state
        squares = np.einsum("cn,cn->n", weighted, weighted) / self._n_channels
        fast, self._fast_state = signal.lfilter(
            [1.0 - self._decay], [1.0, -self._decay], squares, zi=self._fast_state
        )
        self._fast_state[self._fast_state < 1e-100] = 0.0
        self._add(squares, fast)

    def _add(self, squares: NDArray[np.float64], fast: NDArray[np.float64]) -> None:
        start, rate_hz = self._n_frames, self._rate_hz
        self._n_frames += squares.size
        first = start * STEPS_PER_S // rate_hz
        last = self._n_frames * STEPS_PER_S // rate_hz + 2
        grid = step_starts(first, last, rate_hz=rate_hz)
        ends = grid[(grid > start) & (grid <= self._n_frames)] - start
        # Every piece but the last ends with a step; the last stays open for the next block.
        pieces = np.concatenate(([0], ends[ends < squares.size]))
        sums = np.add.reduceat(squares, pieces)
        maxima = np.maximum.reduceat(fast, pieces)
        sums[0] += self._open_sum
        maxima[0] = max(maxima[0], self._open_max)
        n_closed = ends.size
        if n_closed:
            closed = grid[grid <= self._n_frames][-(n_closed + 1) :]
            self._mean_squares.append((sums[:n_closed] / np.diff(closed)).astype(np.float32))
            self._fast_maxima.append(maxima[:n_closed].astype(np.float32))
        is_open = sums.size > n_closed
        self._open_sum = float(sums[-1]) if is_open else 0.0
        self._open_max = float(maxima[-1]) if is_open else 0.0


def step_start(step: int, *, rate_hz: int) -> int:
    """The first frame of a step: ``step * STEP_S`` seconds, rounded half up, in whole numbers."""
    return (2 * step * rate_hz + STEPS_PER_S) // (2 * STEPS_PER_S)


def step_starts(first: int, last: int, *, rate_hz: int) -> NDArray[np.int64]:
    """The starts of the steps ``first`` to ``last``, both included [shape=(last-first+1,)]."""
    steps = np.arange(first, last + 1, dtype=np.int64)
    starts: NDArray[np.int64] = (2 * steps * rate_hz + STEPS_PER_S) // (2 * STEPS_PER_S)
    return starts


def _to_db(mean_square: float) -> float | None:
    return 10.0 * math.log10(mean_square) if mean_square > SILENCE else None
