"""Whether a segment differs from the sound around it.

An event begins and ends, so something changes at its edges. Nothing does in steady noise. Lossy
codecs give it a texture, though, that framewise scoring takes for rain or hiss now and then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import cnn
from actors.science.detection.chunks import STEP, STEP_S, Grid
from actors.science.detection.decoding import Segment
from actors.science.levels.levels import STEPS_PER_S, LevelHistory

#: Sound on either side of a segment with which it is compared, and the least of it.
AROUND_S, LEAST_AROUND_S = 10.0, 2.0

#: Least difference of the mean level in one of the groups of bands, for a segment of some seconds.
#: The mean of a shorter one varies by more, with the root of its length. Sounds 12 dB below white
#: noise differ by 1.5 dB or more; parts of steady noise through MP3 and Vorbis by up to 0.5 dB.
LEAST_DB, LEAST_DB_S = 0.75, 2.0
_N_GROUPS = 8

#: The spectra of a segment are not compared if LAeq of half seconds varies by more than this around
#: it, as a standard deviation. That of steady noise is 0.1 dB, and the test costs next to nothing.
STEADY_DB = 0.35

#: A segment is kept if segments are at least this share of the time around it: they are the rule
#: there, such as rain that lasts.
MOST_SHARE = 0.6

_AROUND = round(AROUND_S / STEP_S)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A recording, as a segment of it is compared with the sound around it.

    ``read`` returns its samples at 16 kHz, and ``levels`` are its levels.
    """

    read: Callable[[int, int], NDArray[np.float32]]
    grid: Grid
    levels: LevelHistory

    def differ(self, segment: Segment, segments: Sequence[Segment]) -> bool:
        """Return whether a segment differs from what is around it, ``segments`` left out.

        True if there is too little of that to compare it with.
        """
        n_steps = -(-self.grid.length // STEP)
        first, stop = max(0, segment.first - _AROUND), min(segment.stop + _AROUND, n_steps)
        is_sound = np.zeros(stop - first, dtype=np.bool_)
        for each in (segment, *segments):
            is_sound[max(each.first - first, 0) : max(each.stop - first, 0)] = True
        n_around = np.count_nonzero(~is_sound)
        if is_sound.mean() >= MOST_SHARE or n_around * STEP_S < LEAST_AROUND_S:
            return True
        length_s = (segment.stop - segment.first) * STEP_S
        least_db = LEAST_DB * max(1.0, LEAST_DB_S / length_s) ** 0.5
        return (
            not self._is_level_steady(first, stop)
            or self._contrast_db(segment, first, is_sound) >= least_db
        )

    def _is_level_steady(self, first: int, stop: int) -> bool:
        """Return whether LAeq of half seconds hardly varies in the frames ``[first, stop)``."""
        begin_s, end_s = (each * STEP_S - self.grid.lead_s for each in (first, stop))
        n_steps = STEPS_PER_S // 2
        squares = self.levels.mean_square[
            max(0, round(begin_s * STEPS_PER_S)) : round(end_s * STEPS_PER_S)
        ]
        halves = squares[: squares.size // n_steps * n_steps].reshape(-1, n_steps).mean(axis=1)
        if not halves.size or not halves.all():
            return False
        return float(np.std(10.0 * np.log10(halves))) <= STEADY_DB

    def _contrast_db(self, segment: Segment, first: int, is_sound: NDArray[np.bool_]) -> float:
        """Return the greatest difference of a segment and its surroundings in a group of bands.

        ``is_sound`` marks the frames from ``first`` on that are in segments.
        """
        stop = first + is_sound.size
        inner, outer = segment.first + _AROUND, segment.stop - _AROUND
        # Of a long segment, its beginning and its end are compared.
        parts = [(first, inner), (outer, stop)] if inner < outer else [(first, stop)]
        powers = np.concatenate([self._powers(*part) for part in parts])
        frames = np.concatenate([np.arange(*part) for part in parts])
        inside = (frames >= segment.first) & (frames < segment.stop)
        around = ~is_sound[frames - first]
        ratios = powers[inside].mean(axis=0) / powers[around].mean(axis=0)
        return float(np.abs(10.0 * np.log10(ratios)).max())

    def _powers(self, first: int, stop: int) -> NDArray[np.float64]:
        """Return the mean power of frames in groups of mel bands [shape=(n, _N_GROUPS)]."""
        samples = self.read(first * STEP - self.grid.lead, stop * STEP - self.grid.lead)
        log_mel = cnn.log_mel(samples).numpy().astype(np.float64)
        shape = (stop - first, cnn.FRAMES_PER_STEP, _N_GROUPS, cnn.N_MELS // _N_GROUPS)
        powers: NDArray[np.float64] = (10.0 ** (log_mel / 10.0)).reshape(shape)
        return np.asarray(powers.sum(axis=3).mean(axis=1))
