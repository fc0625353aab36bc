"""The third-octave band levels of a recording over time, in steps of 0.1 s.

They are unweighted, of the energy mean of the used channels, in dB re digital full scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.levels import bands
from actors.science.levels.levels import SILENT, LevelDataError
from actors.science.levels.totals import to_db

_MAGIC, _VERSION = b"CLBD", 1
_HEADER = struct.Struct("<4sHHIQH")

#: A recording without holes, see `BandHistory.leq_db`.
NO_HOLES = np.zeros((0, 2), dtype=np.int64)

#: Steps that are added up at once, to bound the memory for a day.
_BLOCK = 3_600 * bands.BAND_STEPS_PER_S


@dataclass(frozen=True, eq=False)
class BandHistory:
    """The band levels of a recording.

    Attributes
    ----------
    rate_hz, n_frames
        Sample rate and length of the recording. Step ``k`` begins at ``bands.step_starts``; the
        last may be shorter.
    levels [shape=(n_steps, n_bands)]
        Mean square of each band in each step, as `levels.in_hundredths` stores it. A hole counts as
        silence here.
    """

    rate_hz: int
    n_frames: int
    levels: NDArray[np.int16]

    def leq_db(
        self, start_s: float, end_s: float, *, holes: NDArray[np.int64] = NO_HOLES
    ) -> list[float | None]:
        """Return the equivalent level of each band over ``[start_s, end_s)``, from low to high.

        A partially covered step is weighted by the covered part. Frames in ``holes``, the first
        frame of each and the one after its last [shape=(n_holes, 2)], do not count. A level is
        ``None`` for digital silence and where there is no audio.
        """
        start = min(max(round(start_s * self.rate_hz), 0), self.n_frames)
        end = min(max(round(end_s * self.rate_hz), start), self.n_frames)
        in_holes = np.minimum(holes[:, 1], end) - np.maximum(holes[:, 0], start)
        n_frames = end - start - int(in_holes.clip(0).sum())
        if n_frames <= 0:
            return [None] * self.levels.shape[1]
        # The last step that begins at or before a frame contains it.
        first = bands.count_steps(start + 1, rate_hz=self.rate_hz) - 1
        last = bands.count_steps(end, rate_hz=self.rate_hz)
        energies = np.zeros(self.levels.shape[1])
        for begin in range(first, last, _BLOCK):
            stop = min(begin + _BLOCK, last)
            bounds = bands.step_starts(begin, stop, rate_hz=self.rate_hz)
            weights = np.diff(np.clip(bounds, start, end)).astype(np.float64)
            block = self.levels[begin:stop]
            energies += weights @ np.where(block == SILENT, 0.0, 10 ** (block / 1_000))
        return [to_db(energy / n_frames) for energy in energies.tolist()]

    def to_bytes(self) -> bytes:
        """Encode as a small header and the levels in little-endian order, step by step."""
        header = _HEADER.pack(
            _MAGIC,
            _VERSION,
            bands.BAND_STEPS_PER_S,
            self.rate_hz,
            self.n_frames,
            self.levels.shape[1],
        )
        levels = np.ascontiguousarray(self.levels.astype("<i2", copy=False))
        return b"".join([header, levels.data])

    @classmethod
    def from_bytes(cls, data: bytes) -> BandHistory:
        """Read the output of `to_bytes`.

        Raises
        ------
        LevelDataError
            If the bytes are anything else.
        """
        if len(data) < _HEADER.size:
            raise LevelDataError
        magic, version, per_s, rate_hz, n_frames, n_bands = _HEADER.unpack_from(data)
        if (magic, version, per_s) != (_MAGIC, _VERSION, bands.BAND_STEPS_PER_S) or rate_hz == 0:
            raise LevelDataError
        shape = bands.count_steps(n_frames, rate_hz=rate_hz), n_bands
        if len(data) != _HEADER.size + 2 * shape[0] * n_bands:
            raise LevelDataError
        levels = np.frombuffer(data, "<i2", offset=_HEADER.size).astype(np.int16, copy=False)
        return cls(rate_hz, n_frames, levels.reshape(shape))
