"""Training examples of the feature models: chunks of labelled clips mixed with noise.

A clip is mixed with a background bed at a random gain, with only the bed before and after it, and
is cut into chunks of random length at a random offset. The label of a chunk depends on its clean
sound: the clip's label if the sound is close to the clip's maximum level, ``background`` if it is
far weaker or far below the bed. Chunks in between are not used for training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from actors.science import synth
from actors.science.detection import features
from actors.science.detection.chunks import HOP, MIN_CHUNK, RATE_HZ
from actors.science.types import BACKGROUND

Samples = NDArray[np.float32]

#: Signal-to-noise ratios of the copies, in dB; one in four is left clean.
SNR_DB = (0.0, 30.0)

#: Chunks this far below the clip's loudest one are background...
FAINT_DB = 30.0
#: ...and those within this have the clip's label.
STRONG_DB = 15.0
#: Sound this far below the bed in its chunk is inaudible; the chunk is background.
BURIED_DB = -9.0
#: Sound at or above this level relative to the bed is audible, and used for training.
AUDIBLE_DB = -3.0

#: Lengths of chunks in seconds, and how often each is used. Most recordings have 1-s chunks.
LENGTHS_S = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
LENGTH_SHARES = (0.1, 0.05, 0.55, 0.1, 0.1, 0.05, 0.05)

#: Bed before and after a clip.
_PAD_S = 0.8


@dataclass(frozen=True, eq=False)
class LabelledClip:
    """A labelled recording: mono at 16 kHz. Clips of one group may sound alike."""

    name: str
    label: str
    group: str
    samples: Samples


@dataclass(frozen=True, eq=False)
class Examples:
    """Chunks, one row each: features, class names, groups, and the clip they were cut from."""

    features: NDArray[np.float32]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    clips: NDArray[np.str_]

    def where(self, mask: NDArray[np.bool_]) -> Examples:
        """Select the rows of a mask."""
        return Examples(self.features[mask], self.labels[mask], self.groups[mask], self.clips[mask])


def beds(
    rng: np.random.Generator, *, groups: Sequence[str], how_many: int
) -> Iterator[LabelledClip]:
    """Synthesise background beds of 5 s, assigned to the groups in turn."""
    for number in range(how_many):
        bed = 0.01 * synth.background_bed(rng, 5 * RATE_HZ, RATE_HZ)
        group = groups[number % len(groups)]
        yield LabelledClip(f"bed-{number}", BACKGROUND, group, bed.astype(np.float32))


def copy(clip: LabelledClip, rng: np.random.Generator) -> Examples:
    """Return the usable chunks of one copy of a clip over a bed; there may be none."""
    sound = _varied(clip.samples, rng)
    padded = np.pad(sound, int(_PAD_S * RATE_HZ))
    is_clean = rng.random() < 0.25
    # Even a clean copy has a barely audible bed: there is nothing to learn from digital silence.
    snr_db = 60.0 if is_clean else float(rng.uniform(*SNR_DB))
    bed = bed_under(rng, padded, snr_db=snr_db)
    length = _length(rng, longest=padded.size)
    chunks = list(_grid(padded.size, length=length, first=_offset(rng, length)))
    names = [_called(clip, padded[a:b], bed[a:b], loudest=sound) for a, b in chunks]
    gain = 10 ** (rng.uniform(-20, 10) / 20)
    return _extracted(clip, ((padded + bed) * gain).astype(np.float32), chunks, names)


def plain(clip: LabelledClip, rng: np.random.Generator) -> Examples:
    """Return the chunks of an unchanged clip, all with its label."""
    length = _length(rng, longest=clip.samples.size)
    chunks = list(_grid(clip.samples.size, length=length, first=0))
    return _extracted(clip, clip.samples, chunks, [clip.label] * len(chunks))


def _varied(samples: Samples, rng: np.random.Generator) -> Samples:
    """Change the speed slightly, and tilt the spectrum as another microphone would."""
    speed = float(np.exp(rng.uniform(-0.1, 0.1)))
    positions = np.arange(0, samples.size - 1, speed)
    faster = np.interp(positions, np.arange(samples.size), samples)
    n_fast = fft.next_fast_len(faster.size, real=True)
    spectrum = np.fft.rfft(faster, n_fast)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n_fast, 1 / RATE_HZ), 60.0) / 1_000.0)
    tilted = np.fft.irfft(spectrum * 10 ** (rng.uniform(-2, 2) * octaves / 20), n_fast)
    return tilted[: faster.size].astype(np.float32)


def bed_under(rng: np.random.Generator, sound: Samples, *, snr_db: float) -> Samples:
    """Return a bed as long as a sound, ``snr_db`` below the rms of the sound's louder parts."""
    bed = synth.background_bed(rng, sound.size, RATE_HZ)
    power = np.square(sound[: sound.size // HOP * HOP].reshape(-1, HOP)).mean(axis=1)
    active = power[power > 0.01 * power.max(initial=0.0)]
    rms = float(np.sqrt(active.mean())) if active.size else 1e-3
    return (bed * rms * 10 ** (-snr_db / 20)).astype(np.float32)


def _called(
    clip: LabelledClip, sound: Samples, bed: Samples, *, loudest: Samples | None = None
) -> str | None:
    """Label a chunk by its clean sound and its bed; ``None`` for ambiguous ones."""
    whole = clip.samples if loudest is None else loudest
    power, top = _power(sound), loudest_second(whole)
    if power <= 0:
        return BACKGROUND if _power(bed) > 0 else None
    below_top_db = 10 * np.log10(top / power)
    over_bed_db = 10 * np.log10(power / max(_power(bed), 1e-20))
    if below_top_db > FAINT_DB or over_bed_db < BURIED_DB:
        return BACKGROUND
    return clip.label if below_top_db < STRONG_DB and over_bed_db > AUDIBLE_DB else None


def loudest_second(samples: Samples) -> float:
    """Return the power of the loudest second; that of a shorter sound is spread over one."""
    seconds = range(0, samples.size, RATE_HZ)
    pieces = (samples[first : first + RATE_HZ] for first in seconds)
    return max((_power(piece) * piece.size / RATE_HZ for piece in pieces), default=0.0)


def _power(samples: Samples) -> float:
    return float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0


def _length(rng: np.random.Generator, *, longest: int) -> int:
    seconds = float(rng.choice(LENGTHS_S, p=LENGTH_SHARES))
    return min(int(seconds * RATE_HZ), longest) // HOP * HOP


def _offset(rng: np.random.Generator, length: int) -> int:
    return int(rng.integers(0, max(length // HOP // 2, 1))) * HOP


def _grid(n_samples: int, *, length: int, first: int) -> Iterator[tuple[int, int]]:
    """Return consecutive chunks of one length; a remainder that is long enough is a chunk, too."""
    for start in range(first, n_samples, length):
        stop = min(start + length, n_samples)
        if stop - start >= MIN_CHUNK:
            yield start, stop


def _extracted(
    clip: LabelledClip,
    samples: Samples,
    chunks: Sequence[tuple[int, int]],
    names: Sequence[str | None],
) -> Examples:
    kept = [(chunk, name) for chunk, name in zip(chunks, names, strict=True) if name is not None]
    padded = np.pad(samples, features.MARGIN)
    rows = features.extract(padded, [chunk for chunk, _ in kept])
    return Examples(
        rows,
        np.array([name for _, name in kept], dtype=np.str_),
        np.array([clip.group] * len(kept), dtype=np.str_),
        np.array([clip.name] * len(kept), dtype=np.str_),
    )


def joined(parts: Sequence[Examples]) -> Examples:
    """Concatenate examples."""
    return Examples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.groups for part in parts]),
        np.concatenate([part.clips for part in parts]),
    )
