"""The A-weighted level of a recording over time, in steps of 10 ms.

Levels are in dB re digital full scale: an rms of 1.0 is 0 dB, so a full-scale sine is -3.01 dB.
Adding the calibration of the microphone gives sound pressure levels. ``meter`` computes them at the
recording's own rate: after resampling to 16 kHz they would fail class 1 of IEC 61672-1 above 6 kHz.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.science.errors import ScienceError
from actors.science.levels import recorded
from actors.science.levels.totals import SILENCE, to_db

#: Step of stored levels. A finer one costs memory; a coarser one blurs the ends of events, and
#: reduces the accuracy on grids with another origin, see `LevelHistory.on_grid`.
STEP_S = 0.01

#: Steps per second: the inverse of `STEP_S` as an integer, for exact arithmetic.
STEPS_PER_S = 100

#: The stored value of a step that is digital silence, see `in_hundredths`.
SILENT = -32_768

_MAGIC = b"CLLV"
_HEADER = struct.Struct("<4sHHIQI")

#: Bytes of the two bounds of a hole.
_HOLE_BYTES = 16

#: Version 1 has the first two arrays only: that of sessions processed before the others were kept.
_VERSIONS = (1, 2)


class LevelDataError(ScienceError):
    """The stored levels are damaged."""

    code = "bad-levels"


@dataclass(frozen=True, eq=False)
class LevelHistory:
    """The levels of a recording, in steps of `STEP_S`.

    Attributes
    ----------
    rate_hz, n_frames
        Sample rate and length of the recording. Step ``k`` covers the frames from ``step_start(k,
        rate_hz)`` to the next step's start; the last may be shorter.
    mean_square [shape=(n_steps,)]
        A-weighted mean square of its recorded frames, averaged over channels, full scale = 1; 0
        without any.
    fast_max [shape=(n_steps,)]
        Greatest fast-weighted mean square in the step.
    slow_max [shape=(n_steps,)]
        Greatest slow-weighted level in the step, as `in_hundredths` stores it.
    c_peak [shape=(n_steps,)]
        Greatest C-weighted amplitude of any channel around the greatest sample of the step, also
        between samples; as `in_hundredths` stores its square.
    overloaded [shape=(n_steps,)]
        Whether a channel is overloaded in the step.
    holes [shape=(n_holes, 2)]
        The frames in which nothing is recorded, as `recorded.bounds_of` returns them.

    The three before the last are ``None`` if version 1 of the format was read, which does not have
    them.
    """

    rate_hz: int
    n_frames: int
    mean_square: NDArray[np.float32]
    fast_max: NDArray[np.float32]
    slow_max: NDArray[np.int16] | None = None
    c_peak: NDArray[np.int16] | None = None
    overloaded: NDArray[np.bool_] | None = None
    holes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))

    @property
    def duration_s(self) -> float:
        """Duration of the recording in seconds."""
        return self.n_frames / self.rate_hz

    @property
    def recorded_s(self) -> float:
        """Duration of the recording without its holes, in seconds."""
        return float(recorded.frames_until(np.array(self.n_frames), self.holes)) / self.rate_hz

    def laeq_db(self, start_s: float = 0.0, end_s: float | None = None) -> float | None:
        """Equivalent continuous A-weighted level over ``[start_s, end_s)``, dB re full scale.

        A step counts with its recorded frames in the interval. ``None`` for digital silence and
        where nothing is recorded.
        """
        first, last, weights = self.steps(start_s, end_s)
        total = float(weights.sum())
        if total <= 0:
            return None
        return to_db(float(weights @ self.mean_square[first:last].astype(np.float64)) / total)

    def lafmax_db(self, start_s: float = 0.0, end_s: float | None = None) -> float | None:
        """Greatest LAF in the steps of ``[start_s, end_s)``, dB re full scale.

        ``None`` for digital silence and where nothing is recorded.
        """
        first, last = self.steps(start_s, end_s)[:2]
        return to_db(float(self.fast_max[first:last].max())) if last > first else None

    def steps(self, start_s: float, end_s: float | None) -> tuple[int, int, NDArray[np.float64]]:
        """Return the first step of an interval, the step past the last, and the frames of each.

        They are the recorded frames in the interval; the first and the last step have some.
        """
        start = min(max(round(start_s * self.rate_hz), 0), self.n_frames)
        end = self.n_frames if end_s is None else round(end_s * self.rate_hz)
        end = min(max(end, start), self.n_frames)
        first = max(start * STEPS_PER_S // self.rate_hz - 1, 0)
        last = min(end * STEPS_PER_S // self.rate_hz + 2, self.mean_square.size)
        bounds = step_starts(first, last, rate_hz=self.rate_hz)
        n_frames = np.diff(recorded.frames_until(np.clip(bounds, start, end), self.holes))
        [inside] = n_frames.nonzero()
        if not inside.size:
            return first, first, np.zeros(0)
        begin, stop = int(inside[0]), int(inside[-1]) + 1
        return first + begin, first + stop, n_frames[begin:stop]

    def seconds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the A-weighted mean square and the greatest fast-weighted one of each second.

        Both [shape=(n_seconds,)]; 0 where nothing is recorded. The last second may be shorter.
        """
        lengths = self.step_frames()
        energies = self.sums_of(self.mean_square * lengths, step_s=1.0)
        n_recorded = self.sums_of(lengths, step_s=1.0)
        mean_square = np.zeros(energies.size)
        np.divide(energies, n_recorded, out=mean_square, where=n_recorded > 0)
        return mean_square, self.fast_max_of_seconds()

    def fast_max_of_seconds(self) -> NDArray[np.float64]:
        """Return the greatest fast-weighted mean square of each second [shape=(n_seconds,)].

        That of the steps in which something is recorded; 0 without any.
        """
        fast_max = self.fast_max
        if self.holes.size:
            fast_max = np.where(self.step_frames() > 0, fast_max, np.float32(0))
        firsts = np.arange(0, fast_max.size, STEPS_PER_S)
        if not firsts.size:
            return np.zeros(0)
        return np.maximum.reduceat(fast_max, firsts).astype(np.float64)

    def step_frames(self) -> NDArray[np.float64]:
        """Return the number of recorded frames of each step [shape=(n_steps,)]."""
        return np.diff(recorded.frames_until(self._bounds(), self.holes))

    def recorded_steps(self, *, step_s: float) -> NDArray[np.float64]:
        """Return the recorded seconds of each second or minute [shape=(n,)]."""
        return self.sums_of(self.step_frames(), step_s=step_s) / self.rate_hz

    def sums_of(self, values: NDArray[np.floating[Any]], *, step_s: float) -> NDArray[np.float64]:
        """Sum a value of each step over each second or minute [shape=(n,)]."""
        firsts = np.arange(0, values.size, round(step_s * STEPS_PER_S))
        if not firsts.size:
            return np.zeros(0)
        return np.add.reduceat(values, firsts, dtype=np.float64)

    def on_grid(self, *, step_s: float, lead_s: float) -> NDArray[np.float64]:
        """Return the A-weighted mean square on a grid that begins ``lead_s`` before the recording.

        The steps have the length ``step_s``, the result [shape=(n_steps,)]. The mean is over the
        recorded part of a step; it is 0 where nothing is recorded.
        """
        return self.mean_on_grid(self.mean_square, step_s=step_s, lead_s=lead_s)

    def mean_on_grid(
        self, values: NDArray[np.floating[Any]], *, step_s: float, lead_s: float
    ) -> NDArray[np.float64]:
        """Return the mean of a value of each step, on the grid of `on_grid`."""
        n_steps = math.ceil(round((lead_s + self.duration_s) / step_s, 6))
        bounds_s = np.arange(n_steps + 1) * step_s - lead_s
        return self._curve(values).mean_squares(np.clip(bounds_s, 0, self.duration_s))

    def energy_curve(self) -> EnergyCurve:
        """Return the cumulative A-weighted energy."""
        return self._curve(self.mean_square)

    def _curve(self, values: NDArray[np.floating[Any]]) -> EnergyCurve:
        """Return the cumulative sum of a value of each step, weighted by its recorded frames."""
        # In place, since a day has nine million steps.
        frames = recorded.frames_until(self._bounds(), self.holes)
        energy_until = np.zeros(frames.size)
        np.multiply(np.diff(frames), values, out=energy_until[1:])
        np.cumsum(energy_until, out=energy_until)
        return EnergyCurve(self.rate_hz, self.n_frames, self.holes, frames, energy_until)

    def to_bytes(self) -> bytes:
        """Encode as a small header, the arrays in little-endian order, and the bits of overload.

        Behind them are the bounds of the holes, of which version 1 has none.
        """
        parts = [
            self.mean_square.astype("<f4", copy=False),
            self.fast_max.astype("<f4", copy=False),
        ]
        version = 1
        if self.slow_max is not None and self.c_peak is not None and self.overloaded is not None:
            version = 2
            parts += [
                self.slow_max.astype("<i2", copy=False),
                self.c_peak.astype("<i2", copy=False),
            ]
            parts += [np.packbits(self.overloaded), self.holes.astype("<i8", copy=False)]
        n_steps = self.mean_square.size
        header = _HEADER.pack(_MAGIC, version, STEPS_PER_S, self.rate_hz, self.n_frames, n_steps)
        # Joined as they are: a copy of each would double the memory of a long recording.
        return b"".join([header, *(np.ascontiguousarray(part).data for part in parts)])

    @classmethod
    def from_bytes(cls, data: bytes) -> LevelHistory:
        """Read the output of `to_bytes`, of any version.

        Raises
        ------
        LevelDataError
            If the bytes are anything else.
        """
        if len(data) < _HEADER.size:
            raise LevelDataError
        magic, version, steps_per_s, rate_hz, n_frames, n_steps = _HEADER.unpack_from(data)
        if (magic, steps_per_s) != (_MAGIC, STEPS_PER_S) or version not in _VERSIONS:
            raise LevelDataError
        middle = _HEADER.size + 8 * n_steps
        n_bits = math.ceil(n_steps / 8)
        size = middle if version == 1 else middle + 4 * n_steps + n_bits
        n_holes, rest = divmod(len(data) - size, _HOLE_BYTES)
        if n_holes < 0 or rest or (version == 1 and n_holes) or rate_hz == 0:
            raise LevelDataError
        floats = np.frombuffer(data, "<f4", 2 * n_steps, _HEADER.size)
        floats = floats.astype(np.float32, copy=False)
        energies = floats[:n_steps], floats[n_steps:]
        if version == 1:
            return cls(rate_hz, n_frames, *energies)
        hundredths = np.frombuffer(data, "<i2", 2 * n_steps, middle).astype(np.int16, copy=False)
        bits = np.frombuffer(data, np.uint8, n_bits, offset=middle + 4 * n_steps)
        holes = np.frombuffer(data, "<i8", 2 * n_holes, offset=size).reshape(-1, 2)
        return cls(
            rate_hz,
            n_frames,
            *energies,
            slow_max=hundredths[:n_steps],
            c_peak=hundredths[n_steps:],
            overloaded=np.unpackbits(bits, count=n_steps).view(np.bool_),
            holes=holes.astype(np.int64, copy=False),
        )

    def _bounds(self) -> NDArray[np.float64]:
        """Return the bounds of the steps in frames [shape=(n_steps+1,)]."""
        # As `step_starts`, but in floats and in place, since a day has nine million steps. The
        # operands are integers, and a quotient that is not one is too far from the next to be
        # rounded to it.
        bounds = np.arange(self.mean_square.size + 1, dtype=np.float64)
        bounds *= 2 * self.rate_hz
        bounds += STEPS_PER_S
        bounds /= 2 * STEPS_PER_S
        np.floor(bounds, out=bounds)
        np.minimum(bounds, self.n_frames, out=bounds)
        return bounds


@dataclass(frozen=True, eq=False)
class EnergyCurve:
    """The cumulative A-weighted energy of a recording over time, full scale = 1.

    Attributes
    ----------
    rate_hz, n_frames, holes
        As those of the `LevelHistory`.
    frames [shape=(n_steps+1,)]
        The recorded frames up to each bound of the steps.
    energy_until [shape=(n_steps+1,)]
        Mean square times recorded frames up to each bound.
    """

    rate_hz: int
    n_frames: int
    holes: NDArray[np.int64]
    frames: NDArray[np.float64]
    energy_until: NDArray[np.float64]

    @property
    def duration_s(self) -> float:
        """Duration of the recording in seconds."""
        return self.n_frames / self.rate_hz

    def until(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return mean square times recorded seconds up to some times [shape=(n_times,)]."""
        return self._until(self._recorded_frames(times_s))

    def mean_squares(self, bounds_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean square between each bound and the next [shape=(n_bounds-1,)].

        The mean is over the recorded part; it is 0 where nothing is recorded.
        """
        frames = self._recorded_frames(bounds_s)
        lengths_s = np.diff(frames) / self.rate_hz
        found = np.zeros(lengths_s.size)
        np.divide(np.diff(self._until(frames)), lengths_s, out=found, where=lengths_s > 0)
        return found

    def _recorded_frames(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return recorded.frames_until(times_s * self.rate_hz, self.holes)

    def _until(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.interp(frames, self.frames, self.energy_until)
        return found / self.rate_hz


def in_hundredths(mean_squares: NDArray[np.float64]) -> NDArray[np.int16]:
    """Convert mean squares to hundredths of a dB re full scale, `SILENT` for digital silence.

    They have half the size of floats, and are exact to 0.005 dB.
    """
    level_db: NDArray[np.float64] = 10 * np.log10(np.maximum(mean_squares, SILENCE))
    rounded = np.rint(100 * level_db).astype(np.int16)
    rounded[mean_squares <= SILENCE] = SILENT
    return rounded


def step_start(step: int, *, rate_hz: int) -> int:
    """Return the first frame of a step: ``step * STEP_S`` seconds, rounded half up, in integers."""
    return (2 * step * rate_hz + STEPS_PER_S) // (2 * STEPS_PER_S)


def step_starts(first: int, last: int, *, rate_hz: int) -> NDArray[np.int64]:
    """Return the starts of the steps ``first`` to ``last``, inclusive [shape=(last-first+1,)]."""
    steps = np.arange(first, last + 1, dtype=np.int64)
    starts: NDArray[np.int64] = (2 * steps * rate_hz + STEPS_PER_S) // (2 * STEPS_PER_S)
    return starts
