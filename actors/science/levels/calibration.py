"""Calibration from dB re full scale to dB SPL, by the recording of a sound calibrator.

``level_spl_db = level_dbfs + calibration_db`` for every level, as long as the gain is unchanged. A
calibrator (IEC 60942) applies a tone of a known sound pressure level to the microphone. Its
recording is only accepted if it passes several checks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from actors.science.errors import (
    ToneChannels,
    ToneClipped,
    ToneMissing,
    ToneTooFaint,
    ToneTooShort,
    ToneUnsteady,
)

#: Frequencies of calibrators' tones in Hz, and their relative tolerance.
TONES_HZ = (250.0, 1000.0)
TONE_TOLERANCE = 0.03

#: Frame length of the analysis. A bin of the spectrum is then 10 Hz wide.
FRAME_S = 0.1

#: Audio after this time is ignored.
LONGEST_S = 600.0

#: Bins on either side of the peak that belong to the tone: the spread of a Hann window.
_TONE_BINS = 4

#: Minimum share of a tone frame's power that is in the tone.
TONAL_SHARE = 0.9

#: Minimum duration of the steady tone, and the range of its level. Calibrators keep within 0.1 dB;
#: one that is held badly by hand does not keep within 0.5.
STEADY_S = 2.0
STEADY_DB = 0.5

#: Frames excluded at either end of the steady part, where the calibrator settles.
_SETTLING_FRAMES = 2

#: Minimum ratio of the tone to noise and distortion. At 20 dB these would raise the level of the
#: total power by 0.04 dB; only the tone's power is used anyway.
LEAST_OVER_NOISE_DB = 20.0

#: Minimum level of the tone, dB re full scale: below it is the rounding noise of 16 bits.
FAINTEST_DB = -80.0

#: Samples at least this close to full scale count as clipped.
CLIPPED = 0.999

#: Channels whose tones differ by more cannot share one calibration.
CHANNELS_DB = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration from a calibrator's recording: add ``calibration_db`` to dB re full scale.

    ``tone_hz`` and ``tone_db`` (re full scale) are of the tone as recorded, ``start_s`` and
    ``end_s`` bound the steady part that was used.
    """

    calibration_db: float
    tone_hz: float
    tone_db: float
    start_s: float
    end_s: float


def frame_length(rate_hz: int) -> int:
    """Return the number of samples per frame."""
    return round(rate_hz * FRAME_S)


def from_tone(
    frames: Iterable[NDArray[np.float32]], *, rate_hz: int, tone_spl_db: float
) -> Calibration:
    """Compute the calibration from the recording of a calibrator.

    The level is the unweighted one of the tone alone (Z; at 1 kHz A and C are 0 dB, at 250 Hz
    they are not), over the middle of the longest steady interval of tone.

    Parameters
    ----------
    frames
        The recording in arrays of `frame_length` [shape=(n, n_channels)], full scale = 1. A shorter
        one at the end is ignored.
    rate_hz
        Its sample rate.
    tone_spl_db
        The nominal level of the calibrator: 94 or 114 dB re 20 micropascal.

    Raises
    ------
    NoCalibratorTone
        A subclass, if there is no steady, clean tone of a calibrator's frequency.
    """
    seen = [
        _look(frame, rate_hz)
        for frame in islice(frames, round(LONGEST_S / FRAME_S))
        if len(frame) == frame_length(rate_hz)
    ]
    if not seen:
        raise ToneMissing
    of_channels = np.moveaxis(np.array(seen), 0, -1)
    found = [_tone(_Frames(*of_channel)) for of_channel in of_channels]
    levels_db = [each.tone_db for each in found]
    if max(levels_db) - min(levels_db) > CHANNELS_DB:
        raise ToneChannels
    # Energies are averaged over channels, as in every level.
    tone_db = float(10 * np.log10(np.mean(10 ** (np.array(levels_db) / 10))))
    first = found[0]
    return Calibration(tone_spl_db - tone_db, first.tone_hz, tone_db, first.start_s, first.end_s)


@dataclass(frozen=True, slots=True)
class _Tone:
    tone_hz: float
    tone_db: float
    start_s: float
    end_s: float


@dataclass(frozen=True)
class _Frames:
    """The strongest tone of each frame.

    All [shape=(n_frames,)]: its frequency and power, the power of the rest, and the peak.
    """

    tone_hz: NDArray[np.float64]
    tone: NDArray[np.float64]
    rest: NDArray[np.float64]
    peak: NDArray[np.float64]

    def tonal(self) -> NDArray[np.bool_]:
        """Return which frames contain a calibrator's tone and little else."""
        is_known = np.zeros(self.tone_hz.size, dtype=bool)
        for hz in TONES_HZ:
            is_known |= np.abs(self.tone_hz / hz - 1) <= TONE_TOLERANCE
        tonal: NDArray[np.bool_] = is_known & (self.tone > TONAL_SHARE * (self.tone + self.rest))
        return tonal


def _look(frame: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """Compute the entries of `_Frames` for each channel of a frame [shape=(n_channels, 4)]."""
    channels = np.ascontiguousarray(frame.T, dtype=np.float64)
    window = np.hanning(len(frame) + 1)[:-1]
    mean = channels.mean(axis=1, keepdims=True)
    powers = np.abs(np.fft.rfft((channels - mean) * window)) ** 2
    powers *= 2.0 / (len(frame) * float(window @ window))
    found = np.zeros((len(channels), 4))
    for index, power in enumerate(powers):
        strongest = int(power.argmax())
        low = max(strongest - _TONE_BINS, 0)
        around = power[low : strongest + _TONE_BINS + 1]
        tone = float(around.sum())
        bin_number = low + float(np.arange(around.size) @ around) / tone if tone else 0.0
        found[index] = (
            bin_number * rate_hz / len(frame),
            tone,
            float(power.sum()) - tone,
            float(np.abs(channels[index]).max()),
        )
    return found


def _tone(frames: _Frames) -> _Tone:
    """Return the tone of one channel."""
    tonal = frames.tonal()
    if not tonal.any():
        raise ToneMissing
    least_frames = round(STEADY_S / FRAME_S)
    if tonal.sum() < least_frames + 2 * _SETTLING_FRAMES:
        raise ToneTooShort
    first, last = _steady(frames.tone, tonal)
    first, last = first + _SETTLING_FRAMES, last - _SETTLING_FRAMES
    if last - first < max(least_frames, tonal.sum() / 2):
        raise ToneUnsteady
    if float(frames.peak[first:last].max()) >= CLIPPED:
        raise ToneClipped
    power, rest = float(frames.tone[first:last].mean()), float(frames.rest[first:last].mean())
    tone_db = float(10 * np.log10(power))
    if tone_db < FAINTEST_DB or power < rest * 10 ** (LEAST_OVER_NOISE_DB / 10):
        raise ToneTooFaint
    return _Tone(
        tone_hz=float(frames.tone_hz[first:last].mean()),
        tone_db=tone_db,
        start_s=first * FRAME_S,
        end_s=last * FRAME_S,
    )


def _steady(power: NDArray[np.float64], tonal: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the bounds of the longest run of tonal frames with levels within `STEADY_DB`.

    Two pointers move over the frames; the run is shortened from its start until it is steady.
    """
    level_db = 10 * np.log10(np.maximum(power, 1e-30))
    best = (0, 0)
    first = 0
    for last in range(power.size):
        if not tonal[last]:
            first = last + 1
            continue
        while np.ptp(level_db[first : last + 1]) > STEADY_DB:
            first += 1
        if last + 1 - first > best[1] - best[0]:
            best = (first, last + 1)
    return best
