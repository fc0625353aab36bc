"""Sounds that types are trained on, and copies of them as a microphone would record them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.facts import noise_types
from actors.science import synth
from actors.science.detection.silence import QUIET_DB
from actors.science.detection.tagging.backbone import RATE_HZ, SHORTEST, Array
from actors.science.detection.tagging.tagger import Floats

#: Signal-to-noise ratios of the copies, in dB, and their gains.
SNR_DB, GAIN_DB = (0.0, 20.0), (-15.0, 0.0)

#: Shares of copies that contain a part of their sound, and of copies over real background.
CUT_SHARE, REAL_SHARE = 0.5, 0.5

#: Samples in a tenth of a second.
_BLOCK = RATE_HZ // 10


@dataclass(frozen=True, eq=False)
class Sound:
    """A labelled sound at 32 kHz.

    Attributes
    ----------
    name
        Origin of the sound.
    types
        The types that sound; none for a bed.
    group
        Held out together with all sounds of the same group.
    samples : numpy.ndarray [shape=(n,), dtype=float32]
    also
        Further types that are accepted.
    origin
        The folder of a recording, empty for other sounds.
    quiet_db
        The level below which it is silence; see `silence`.
    """

    name: str
    types: tuple[str, ...]
    group: str
    samples: Array
    also: tuple[str, ...] = ()
    origin: str = ""
    quiet_db: float = QUIET_DB

    @property
    def right(self) -> frozenset[str]:
        """All accepted types, with the types below them."""
        return frozenset().union(*map(noise_types.below, (*self.types, *self.also)))


def copy(sound: Sound, beds: Sequence[Sound], rng: np.random.Generator) -> Sound:
    """Cut a sound, mix it with a background and reduce its level."""
    part = cut(sound.samples, rng)
    also, bed = sound.also, synth.background_bed(rng, part.size, RATE_HZ)
    if beds and rng.random() < REAL_SHARE:
        real = beds[int(rng.integers(len(beds)))]
        start = int(rng.integers(0, max(1, real.samples.size - part.size)))
        also, bed = (*also, *real.types), np.resize(real.samples[start:], part.size)
    loud = over(part, bed, float(rng.uniform(*SNR_DB)))
    return replace(sound, samples=fainter(loud, rng), also=also)


def over(samples: Array, bed: Array, snr_db: float) -> Array:
    """Mix a sound with a bed that is ``snr_db`` below the sound's loud tenths of a second."""
    found: Array = (samples + bed * bed_gain(samples, bed) * 10 ** (-snr_db / 20)).astype(
        np.float32
    )
    return found


def bed_gain(samples: Array, bed: Array) -> float:
    """Return the gain that makes a bed as loud as the loud tenths of a second of a sound."""
    powers = _powers(samples)
    loud = powers[powers >= 0.03 * powers.max()].mean()
    return float(np.sqrt(loud / max(float(np.square(bed).mean()), 1e-12)))


def fainter(samples: Array, rng: np.random.Generator) -> Array:
    """Reduce the level of a sound by a random gain of `GAIN_DB`, and clip it at full scale."""
    fainter = samples * 10 ** (rng.uniform(*GAIN_DB) / 20)
    found: Array = np.clip(fainter, -1.0, 1.0).astype(np.float32)
    return found


def cut(samples: Array, rng: np.random.Generator) -> Array:
    """Return the part of a sound that is loud enough, or for `CUT_SHARE` of them a part of that."""
    powers = _powers(samples)
    loud = np.flatnonzero(powers >= 1e-3 * powers.max())
    first, last = int(loud[0]), int(loud[-1]) + 1
    if last - first > 15 and rng.random() < CUT_SHARE:
        length = int(rng.uniform(10, last - first))
        first += int(rng.integers(0, last - first - length + 1))
        last = first + length
    first, last = max(0, first - int(rng.integers(0, 4))), last + int(rng.integers(0, 4))
    part = samples[first * _BLOCK : last * _BLOCK]
    return np.pad(part, (0, max(0, SHORTEST - part.size)))


def _powers(samples: Array) -> Floats:
    """Return mean squares of tenths of a second."""
    padded = np.pad(samples, (0, -samples.size % _BLOCK))
    found: Floats = np.square(padded, dtype=np.float64).reshape(-1, _BLOCK).mean(axis=1)
    return found
