"""From dB re full scale to dB SPL, by the recording of a sound calibrator.

``level_spl_db = level_dbfs + calibration_db`` for every level, as long as the gain is not touched.
A calibrator (IEC 60942) puts a tone of a known sound pressure level on the microphone. Before its
recording is believed it has to look like one.
"""

from __future__ import annotations

from dataclasses import dataclass

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

#: Sound pressure levels of calibrators' tones, dB re 20 micropascal.
TONE_LEVELS_DB = (94.0, 114.0)

#: Frequencies of calibrators' tones in Hz, and how far one may be off, as a share of it.
TONES_HZ = (250.0, 1000.0)
TONE_TOLERANCE = 0.03

#: The recording is looked at in frames of this length. A bin of the spectrum is 10 Hz wide then.
FRAME_S = 0.1

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


def from_tone(samples: NDArray[np.float32], *, rate_hz: int, tone_spl_db: float) -> Calibration:
    """Find the calibration from the recording of a calibrator.

    The level is the unweighted one of the tone alone (Z; at 1 kHz A and C are 0 dB, at 250 Hz
    they are not), over the middle of the longest steady stretch of tone.

    Parameters
    ----------
    samples : numpy.ndarray [shape=(n, n_channels)]
        Full scale = 1.
    rate_hz
        Their rate.
    tone_spl_db
        What the calibrator says of itself: 94 or 114 dB re 20 micropascal.

    Raises
    ------
    NoCalibratorTone
        One of its kinds, if this is no steady, clean tone of a calibrator's frequency.
    """
    found = [_tone(samples[:, index], rate_hz) for index in range(samples.shape[1])]
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
    """Of each frame [shape=(n_frames,)]: the tone's frequency, its power, and that of all else."""

    tone_hz: NDArray[np.float64]
    tone: NDArray[np.float64]
    rest: NDArray[np.float64]

    def tonal(self) -> NDArray[np.bool_]:
        """Which frames hold a calibrator's tone and little else."""
        is_known = np.zeros(self.tone_hz.size, dtype=bool)
        for hz in TONES_HZ:
            is_known |= np.abs(self.tone_hz / hz - 1) <= TONE_TOLERANCE
        tonal: NDArray[np.bool_] = is_known & (self.tone > TONAL_SHARE * (self.tone + self.rest))
        return tonal


def _tone(samples: NDArray[np.float32], rate_hz: int) -> _Tone:
    """The tone of one channel [shape=(n,)]."""
    n_frame = round(rate_hz * FRAME_S)
    frames = _frames(samples, n_frame, rate_hz)
    tonal = frames.tonal()
    if not tonal.any():
        raise ToneMissing
    if tonal.sum() * FRAME_S < STEADY_S:
        raise ToneTooShort(f"{STEADY_S:.0f} s of steady tone are needed")
    first, last = _steady(frames.tone, tonal)
    first, last = first + _SETTLING_FRAMES, last - _SETTLING_FRAMES
    if (last - first) * FRAME_S < STEADY_S:
        raise ToneUnsteady(
            f"the level of the calibrator's tone does not keep within {STEADY_DB} dB"
            f" for {STEADY_S:.0f} s"
        )
    if (last - first) < tonal.sum() / 2:
        raise ToneUnsteady
    inside = samples[first * n_frame : last * n_frame]
    if float(np.abs(inside).max()) >= CLIPPED:
        raise ToneClipped
    power, rest = float(frames.tone[first:last].mean()), float(frames.rest[first:last].mean())
    if power < rest * 10 ** (LEAST_OVER_NOISE_DB / 10):
        raise ToneTooFaint
    start_s, end_s = first * n_frame / rate_hz, last * n_frame / rate_hz
    tone_hz = float(frames.tone_hz[first:last].mean())
    return _Tone(tone_hz, float(10 * np.log10(power)), start_s, end_s)


def _frames(samples: NDArray[np.float32], n_frame: int, rate_hz: int) -> _Frames:
    """Look at each frame by itself: find the strongest part of its spectrum, and weigh it."""
    n_frames = samples.size // n_frame
    window = np.hanning(n_frame + 1)[:-1]
    scale = 2.0 / (n_frame * float(window @ window))
    found = np.zeros((3, n_frames))
    for index in range(n_frames):
        frame = samples[index * n_frame : (index + 1) * n_frame].astype(np.float64)
        power = scale * np.abs(np.fft.rfft((frame - frame.mean()) * window)) ** 2
        peak = int(power.argmax())
        low, high = max(peak - _TONE_BINS, 0), peak + _TONE_BINS + 1
        tone = float(power[low:high].sum())
        centre = float(np.arange(low, low + power[low:high].size) @ power[low:high])
        tone_hz = centre / tone * rate_hz / n_frame if tone else 0.0
        found[:, index] = tone_hz, tone, float(power.sum()) - tone
    return _Frames(*found)


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
