"""Whether a segment differs from the sound around it, or from noise.

An event begins and ends, so something changes at its edges. Nothing does in steady noise. Lossy
codecs give it a texture, though, that framewise scoring takes for rain or hiss now and then.

Where a segment has hardly any surroundings, such as rain that lasts, it is compared with Gaussian
noise of the same spectrum: its levels vary more, since rain consists of drops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from actors.science.detection.chunks import RATE_HZ, STEP, STEP_S, Grid
from actors.science.detection.decoding import Segment
from actors.science.levels.levels import STEPS_PER_S, LevelHistory

#: Sound on either side of a segment with which it is compared, and the least of it.
AROUND_S, LEAST_AROUND_S = 10.0, 2.0

#: The bands in which a segment is compared.
_BANDS_HZ = (62.5, 400.0, 800.0, 1_300.0, 1_900.0, 2_700.0, 3_800.0, 5_500.0, 8_000.0)
#: Least difference of the mean level in one of these bands, for a segment of some seconds.
#: The mean of a shorter one varies by more, with the root of its length. Sounds 12 dB below white
#: noise differ by 1.5 dB or more; parts of steady noise through MP3 and Vorbis by up to 0.5 dB.
LEAST_DB, LEAST_DB_S = 0.75, 2.0

#: This much at the beginning of a recording is left out, unless the segment ends soon behind it:
#: lossy codecs begin with a click beside a rumble.
SETTLED_S = 0.5

#: The spectra of a segment are not compared if LAeq of half seconds varies by more than this around
#: it, as a standard deviation. That of steady noise is 0.1 dB, and the test costs next to nothing.
STEADY_DB = 0.35

#: Segments that are at least this share of the time around one are the rule there, as in rain that
#: lasts. They are not compared with the rest.
MOST_SHARE = 0.6

#: Sound is compared with Gaussian noise in octave bands between these frequencies, in stretches of
#: the first length at its beginning, middle and end. It has to be of the second length at least:
#: running water may pass for noise during ten seconds.
_OCTAVES_HZ = (62.5, 125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 7_000.0)
STRETCH_S, LEAST_NOISE_S = 10.0, 15.0
#: The variation of half-second levels, relative to that of noise: the range of each octave, and of
#: their mean. The mean is 0.9 to 1.5 in noise through codecs, whose highest octave varies the most;
#: above 2.5 in rain of ten seconds and more; and below 0.7 in the tones of machines.
OCTAVE_RANGE, MEAN_RANGE = (0.4, 2.9), (0.75, 1.8)
_N_FFT, _HOP = 1_024, 512
#: Bands this far below the strongest one are left out, since codecs turn them on and off. So are
#: those up to this frequency that are as far below the rumble beside them, below the lowest band.
_AUDIBLE_DB, _RUMBLE_HZ = 25.0, 1_100.0

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

        Where the level varies, it does. If there is too little sound to compare it with, the
        segment has to differ from noise.
        """
        start = self._start if segment.stop > 2 * self._start else 0
        first = max(start, segment.first - _AROUND)
        stop = min(segment.stop + _AROUND, self._n_frames)
        if not self._is_level_steady(first, stop):
            return True
        is_sound = np.zeros(stop - first, dtype=np.bool_)
        for each in (segment, *segments):
            is_sound[max(each.first - first, 0) : max(each.stop - first, 0)] = True
        n_around = np.count_nonzero(~is_sound)
        if is_sound.mean() >= MOST_SHARE or n_around * STEP_S < LEAST_AROUND_S:
            return not self._is_noise(first, stop)
        length_s = (segment.stop - segment.first) * STEP_S
        least_db = LEAST_DB * max(1.0, LEAST_DB_S / length_s) ** 0.5
        return bool(self._contrast_db(segment, first, is_sound) >= least_db)

    @property
    def _n_frames(self) -> int:
        return -(-self.grid.length // STEP)

    @property
    def _start(self) -> int:
        """The frame with which an encoder has settled."""
        return -(-(self.grid.lead + round(SETTLED_S * RATE_HZ)) // STEP)

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

    def _is_noise(self, first: int, stop: int) -> bool:
        """Return whether the levels of the frames ``[first, stop)`` vary as those of noise do.

        Frames before and after them are added if they are few. False if there are none to add.
        """
        length, least = round(STRETCH_S / STEP_S), round(LEAST_NOISE_S / STEP_S)
        first = max(min(first, stop - least), 0)
        stop = min(max(stop, first + least), self._n_frames)
        if stop - first < least:
            return False
        begins = (first, (first + stop - length) // 2, stop - length)
        lead = self.grid.lead
        return is_noise(
            np.stack([self.read(at * STEP - lead, (at + length) * STEP - lead) for at in begins])
        )

    def _contrast_db(self, segment: Segment, first: int, is_sound: NDArray[np.bool_]) -> float:
        """Return the greatest difference of a segment and its surroundings in an audible band.

        ``is_sound`` marks the frames from ``first`` on that are in segments.
        """
        stop = first + is_sound.size
        inner, outer = max(segment.first, first) + _AROUND, segment.stop - _AROUND
        # Of a long segment, its beginning and its end are compared.
        parts = [(first, inner), (outer, stop)] if inner < outer else [(first, stop)]
        read = [self._spectra(*part) for part in parts]
        frames = np.concatenate([frames for frames, _ in read])
        powers = np.concatenate([powers for _, powers in read], axis=1)
        inside = (frames >= segment.first) & (frames < segment.stop)
        if not inside.any():
            # The segment is in the lead of the grid.
            return 0.0
        spectra = [powers[:, chosen].mean(axis=1) for chosen in (inside, ~is_sound[frames - first])]
        bands = np.array([_sums(spectrum, _BANDS_HZ) for spectrum in spectra])
        is_audible = _is_audible(bands.max(axis=0), _BANDS_HZ, rumble=_rumble(powers))
        with np.errstate(divide="ignore", invalid="ignore"):
            differences_db = np.abs(10.0 * np.log10(bands[0] / bands[1]))
        return float(differences_db[is_audible].max(initial=0.0))

    def _spectra(self, first: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the power spectra of the frames ``[first, stop)``, and the frame of each.

        Only sound of the recording is read: silence at its ends would be a click beside an offset.
        """
        begin = max(first * STEP - self.grid.lead, 0)
        end = min(stop * STEP - self.grid.lead, self.grid.n_samples)
        powers = _power_spectra(self.read(begin, end))
        middles = begin + self.grid.lead + _HOP * (1 + np.arange(powers.shape[1]))
        return middles // STEP, powers


def is_noise(stretches: NDArray[np.float32]) -> bool:
    """Return whether levels in stretches of sound vary as those of Gaussian noise do.

    The mean power of noise of bandwidth ``b`` over a time ``t`` has a relative standard deviation
    of ``1 / sqrt(b * t)`` (S. O. Rice, 1944). The effective bandwidth of a spectrum ``p`` is
    ``sum(p)**2 / sum(p**2)``.

    Parameters
    ----------
    stretches
        Samples at 16 kHz, of 10 s each [shape=(n_stretches, n_samples)].
    """
    powers = _power_spectra(stretches)
    per_half = round(0.5 * RATE_HZ / _HOP)
    n_halves = powers.shape[2] // per_half
    variations, totals = [], []
    for low_hz, high_hz in itertools.pairwise(_OCTAVES_HZ):
        octave = powers[:, _bins(low_hz, high_hz), : n_halves * per_half]
        means = octave.mean(axis=2)
        totals.append(means.sum(axis=1).mean())
        halves = octave.sum(axis=1).reshape(len(stretches), n_halves, per_half).mean(axis=2)
        # Digital silence varies by NaN, which is outside of each range.
        with np.errstate(invalid="ignore"):
            bandwidth_hz = means.sum(axis=1) ** 2 / (means**2).sum(axis=1) * RATE_HZ / _N_FFT
            deviation = halves.std(axis=1, ddof=1) / halves.mean(axis=1)
        variations.append((deviation * np.sqrt(0.5 * bandwidth_hz)).mean())
    is_audible = _is_audible(np.array(totals), _OCTAVES_HZ, rumble=_rumble(powers))
    found = np.asarray(variations)[is_audible]
    return bool(
        found.size
        and (OCTAVE_RANGE[0] <= found).all()
        and (found <= OCTAVE_RANGE[1]).all()
        and MEAN_RANGE[0] <= found.mean() <= MEAN_RANGE[1]
    )


def _power_spectra(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the power spectra [shape=(..., n_bins, n_spectra)] of sound without its offset."""
    sound = samples.astype(np.float64)
    sound -= sound.mean(axis=-1, keepdims=True)
    _, _, spectra = signal.stft(sound, RATE_HZ, nperseg=_N_FFT, boundary=None, padded=False)
    powers: NDArray[np.float64] = np.abs(spectra) ** 2
    return powers


def _bins(low_hz: float, high_hz: float) -> slice:
    return slice(*(round(hz * _N_FFT / RATE_HZ) for hz in (low_hz, high_hz)))


def _sums(spectrum: NDArray[np.float64], edges_hz: Sequence[float]) -> list[float]:
    """Return the power of a spectrum in each of the bands between some edges."""
    return [float(spectrum[_bins(*band)].sum()) for band in itertools.pairwise(edges_hz)]


def _rumble(powers: NDArray[np.float64]) -> float:
    """Return the mean power below the lowest band."""
    return float(powers[..., _bins(0, _OCTAVES_HZ[0]), :].sum(axis=-2).mean())


def _is_audible(
    bands: NDArray[np.float64], edges_hz: Sequence[float], *, rumble: float
) -> NDArray[np.bool_]:
    """Return which bands with these powers are audible beside the others and the rumble."""
    hidden = 10 ** (-_AUDIBLE_DB / 10)
    is_near_rumble = np.array(edges_hz[1:]) <= _RUMBLE_HZ
    floors = np.where(is_near_rumble, max(bands.max(), rumble), bands.max())
    found: NDArray[np.bool_] = (bands > 0) & (bands >= floors * hidden)
    return found
