"""From dB re full scale to dB SPL, by the recording of a sound calibrator.

``level_spl_db = level_dbfs + calibration_db`` for every level, as long as the gain is not touched.
A calibrator (IEC 60942) puts a tone of a known sound pressure level on the microphone. Before its
recording is believed it has to look like one.
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

#: Frequencies of calibrators' tones in Hz, and how far one may be off, as a share of it.
TONES_HZ = (250.0, 1000.0)
TONE_TOLERANCE = 0.03

#: The recording is looked at in frames of this length. A bin of the spectrum is 10 Hz wide then.
FRAME_S = 0.1

#: What lies behind this is not looked at.
LONGEST_S = 600.0

#: Bins on either side of the peak that belong to the tone: all that a Hann window spreads it over.
_TONE_BINS = 4

#: Share of a frame's power that is the tone's, for the frame to count as tone.
TONAL_SHARE = 0.9

#: How long the tone must be steady, and within what. Calibrators keep 0.1 dB; a hand that holds
#: one badly does not keep 0.5.
STEADY_S = 2.0
STEADY_DB = 0.5

#: Frames at either end of the steady part that are left out: the calibrator settles there.
_SETTLING_FRAMES = 2

#: The least distance of the tone from all else, noise and distortion. At 20 dB they would raise
#: a level of all the power by 0.04 dB; only the tone's own power is counted anyway.
LEAST_OVER_NOISE_DB = 20.0

#: The faintest tone that is believed, dB re full scale: below lies the rounding of 16 bits.
FAINTEST_DB = -80.0

#: Samples this near to full scale are taken for clipped ones.
CLIPPED = 0.999

#: Channels whose tones differ by more do not share one calibration.
CHANNELS_DB = 0.5


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a calibrator's recording says: add ``calibration_db`` to dB re full scale.

    ``tone_hz`` and ``tone_db`` (re full scale) are of the tone as recorded, ``start_s`` and
    ``end_s`` bound the steady part that was used.
    """

    calibration_db: float
    tone_hz: float
    tone_db: float
    start_s: float
    end_s: float


def frame_length(rate_hz: int) -> int:
    """Samples of a frame."""
    return round(rate_hz * FRAME_S)


def from_tone(
    frames: Iterable[NDArray[np.float32]], *, rate_hz: int, tone_spl_db: float
) -> Calibration:
    """Find the calibration from the recording of a calibrator.

    The level is the unweighted one of the tone alone (Z; at 1 kHz A and C are 0 dB, at 250 Hz
    they are not), over the middle of the longest steady stretch of tone.

    Parameters
    ----------
    frames
        The recording in arrays of `frame_length` [shape=(n, n_channels)], full scale = 1. A
        shorter one at the end does not count.
    rate_hz
        Its sample rate.
    tone_spl_db
        What the calibrator says of itself: 94 or 114 dB re 20 micropascal.

    Raises
    ------
    NoCalibratorTone
        One of its kinds, if this is no steady, clean tone of a calibrator's frequency.
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
    """Of each frame [shape=(n_frames,)]: the frequency of the strongest tone in it, its power,
    that of all else, and the greatest amplitude.
    """

    tone_hz: NDArray[np.float64]
    tone: NDArray[np.float64]
    rest: NDArray[np.float64]
    peak: NDArray[np.float64]

    def tonal(self) -> NDArray[np.bool_]:
        """Which frames hold a calibrator's tone and little else."""
        is_known = np.zeros(self.tone_hz.size, dtype=bool)
        for hz in TONES_HZ:
            is_known |= np.abs(self.tone_hz / hz - 1) <= TONE_TOLERANCE
        tonal: NDArray[np.bool_] = is_known & (self.tone > TONAL_SHARE * (self.tone + self.rest))
        return tonal


def _look(frame: NDArray[np.float32], rate_hz: int) -> NDArray[np.float64]:
    """The entries of `_Frames` for each channel of a frame [shape=(n_channels, 4)]."""
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
    """The tone of one channel."""
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
    """The longest run of tonal frames whose levels keep within `STEADY_DB`: first, past the last.

    Two ends move over the frames; the run is shortened from its start whenever it is broken.
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
