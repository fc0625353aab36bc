"""Training sounds of noise types, and copies of them as a microphone would record them.

A folder holds ``esc10/``, ``everyday/`` and ``backgrounds/``. Sounds of one author, or of one fold
of ESC-10, are in one group.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from actors.facts import noise_types
from actors.science import synth
from actors.science.audio_io import decode
from actors.science.tagging.backbone import RATE_HZ, SHORTEST, Array
from actors.science.tagging.tagger import PIECE, Floats
from actors.training import dataset

#: Groups of sounds; one group at a time is held out.
N_GROUPS = 4

#: Number of synthesised sounds of each type, and of synthesised beds.
SYNTHESISED, BEDS = 24, 160

#: Signal-to-noise ratios of the copies, in dB, and their gains.
SNR_DB, GAIN_DB = (0.0, 20.0), (-15.0, 0.0)

#: Maximum level difference of the sounds of a pair, in dB.
PAIR_DB = 6.0

#: Shares of copies that contain a part of their sound, of copies over real background, and of
#: synthesised sounds that pass a lossy codec.
CUT_SHARE, REAL_SHARE, CODEC_SHARE = 0.5, 0.5, 0.4

#: Codecs of field recorders and phones: rate, container and coding.
CODECS = (
    (16_000, "MP3", "MPEG_LAYER_III"),
    (32_000, "MP3", "MPEG_LAYER_III"),
    (16_000, "OGG", "VORBIS"),
    (16_000, "OGG", "OPUS"),
)

#: Samples in a tenth of a second.
_BLOCK = RATE_HZ // 10


@dataclass(frozen=True)
class Bed:
    """A recording of real background: the types in it, and its credits."""

    types: tuple[str, ...]
    author: str
    source: str
    licence: str


#: The recordings of real background, by name.
BACKGROUNDS = {
    "birds": Bed(("birds",), "kvgarlic", "Freesound 156826", "CC0"),
    "boat": Bed(("boat", "water"), "Falcet", "Freesound 439365", "CC0"),
    "city": Bed(
        ("road_traffic", "engine_idling", "truck_bus"), "gezortenplotz", "Freesound 44796", "CC BY"
    ),
    "coffee-shop": Bed(("crowd", "speech"), "stephan", "SoundBible 1664", "public domain"),
    "rain": Bed(("rain", "water"), "alex36917", "Freesound 524605", "CC BY"),
    "storm": Bed(("wind", "rain", "thunder"), "digifishmusic", "Freesound 41739", "CC BY"),
    "train": Bed(("train",), "SDLx", "Freesound 259988", "CC BY 3.0"),
    "waves": Bed(("sea_waves", "water"), "Luftrum", "Freesound 48412", "CC BY"),
    "wind": Bed(("wind",), "felix.blume", "Freesound 217506", "CC0"),
}

#: The synthesised types.
SYNTHETIC = {
    "alarm_tone": synth.alarm_tone,
    "broadband_hiss": synth.broadband_hiss,
    "hammering": synth.hammering,
    "mains_hum": synth.mains_hum,
    "siren_sweep": synth.siren_sweep,
}


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
    """

    name: str
    types: tuple[str, ...]
    group: str
    samples: Array
    also: tuple[str, ...] = ()
    origin: str = ""

    @property
    def right(self) -> frozenset[str]:
        """All accepted types, with the types below them."""
        return frozenset().union(*map(noise_types.below, (*self.types, *self.also)))


def load(path: Path) -> Array:
    """Read a recording as mono at 32 kHz."""
    with path.open("rb") as file, decode.open_recording(file) as decoder:
        rate_hz = decoder.format.rate_hz
        mono = np.concatenate([block.mean(axis=1) for block in decoder.blocks()])
    resampled: Array = soxr.resample(mono.astype(np.float32), rate_hz, RATE_HZ)
    return resampled


def sounds(folder: Path) -> Iterator[Sound]:
    """Read the labelled sounds of a folder, each with its group."""
    for row in dataset.read_labels(folder / "esc10"):
        samples = load(folder / "esc10" / "clips" / row["file"])
        yield Sound(row["file"], (row["label"],), row["fold"], samples, origin="esc10")
    group_of = _groups(folder)
    for row in dataset.read_labels(folder / "everyday"):
        yield Sound(
            row["file"],
            (row["noise_type"],),
            group_of(row["author"] or row["source_repo"]),
            load(folder / "everyday" / "clips" / row["file"]),
            also=tuple(row["other_types"].split()),
            origin="everyday",
        )


def backgrounds(folder: Path) -> list[Sound]:
    """Read the recordings of real background of a folder, each with its group."""
    group_of = _groups(folder)
    return [
        Sound(path.stem, bed.types, group_of(bed.author), load(path), origin="backgrounds")
        for path in sorted((folder / "backgrounds").glob("*.ogg"))
        for bed in [BACKGROUNDS[path.stem]]
    ]


def synthesised(rng: np.random.Generator) -> Iterator[Sound]:
    """Make sounds of the synthesised types, and beds without sounds."""
    makers = [(name, make) for name, make in SYNTHETIC.items() for _ in range(SYNTHESISED)]
    makers += [("", synth.background_bed)] * BEDS
    for number, (name, make) in enumerate(makers):
        n_samples = int(rng.uniform(1.0, 8.0) * RATE_HZ)
        samples = np.asarray(0.1 * make(rng, n_samples, RATE_HZ), dtype=np.float32)
        if rng.random() < CODEC_SHARE:
            samples = through_codec(samples, rng)
        types = (name,) if name else ()
        yield Sound(f"{name or 'bed'}-{number}", types, str(number % N_GROUPS + 1), samples)


def through_codec(samples: Array, rng: np.random.Generator) -> Array:
    """Encode and decode a sound by a low-rate lossy codec, as field recorders do."""
    codec = CODECS[int(rng.integers(len(CODECS)))]
    return coded(samples, codec, level=float(rng.uniform(0.0, 1.0)))


def coded(samples: Array, codec: tuple[int, str, str], *, level: float) -> Array:
    """Encode and decode a sound by a lossy codec: rate, container and coding.

    ``level`` is libsndfile's compression level, from 0 to 1.
    """
    rate_hz, container, subtype = codec
    slow = soxr.resample(samples, RATE_HZ, rate_hz)
    file = io.BytesIO()
    soundfile.write(file, slow, rate_hz, format=container, subtype=subtype, compression_level=level)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    back: Array = soxr.resample(decoded, rate_hz, RATE_HZ)
    return back


def pieces(bed: Sound, rng: np.random.Generator) -> Iterator[Sound]:
    """Cut a background recording into pieces of varying length."""
    start = 0
    while bed.samples.size - start >= SHORTEST:
        length = int(np.exp(rng.uniform(np.log(SHORTEST), np.log(PIECE))))
        yield replace(bed, samples=bed.samples[start : start + length])
        start += length


def copy(sound: Sound, beds: Sequence[Sound], rng: np.random.Generator) -> Sound:
    """Cut a sound, mix it with a background and reduce its level."""
    cut = _cut(sound.samples, rng)
    also, bed = sound.also, synth.background_bed(rng, cut.size, RATE_HZ)
    if beds and rng.random() < REAL_SHARE:
        real = beds[int(rng.integers(len(beds)))]
        start = int(rng.integers(0, max(1, real.samples.size - cut.size)))
        also, bed = (*also, *real.types), np.resize(real.samples[start:], cut.size)
    loud = over(cut, bed, float(rng.uniform(*SNR_DB)))
    return replace(sound, samples=_fainter(loud, rng), also=also)


def pair(given: Sequence[Sound], rng: np.random.Generator) -> Sound | None:
    """Mix two sounds of one group; return None if they are of one type."""
    first, second = (given[int(each)] for each in rng.integers(len(given), size=2))
    if first.right & second.right:
        return None
    longer, shorter = sorted(
        (_cut(each.samples, rng)[:PIECE] for each in (first, second)), key=len, reverse=True
    )
    start = int(rng.integers(0, longer.size - shorter.size + 1))
    ratio_db = float(rng.uniform(-PAIR_DB, PAIR_DB)) / 20
    both = longer.copy()
    both[start : start + shorter.size] += shorter * _ratio(longer, shorter) * 10**ratio_db
    return replace(
        first,
        name=f"{first.name} + {second.name}",
        types=(*first.types, *second.types),
        samples=_fainter(both, rng),
        also=(*first.also, *second.also),
    )


def mixed(samples: Array, snr_db: float, rng: np.random.Generator) -> Array:
    """Mix a sound with a synthesised bed."""
    return over(samples, synth.background_bed(rng, samples.size, RATE_HZ), snr_db)


def over(samples: Array, bed: Array, snr_db: float) -> Array:
    """Mix a sound with a bed that is ``snr_db`` below the sound's loud tenths of a second."""
    found: Array = (samples + bed * _ratio(samples, bed) * 10 ** (-snr_db / 20)).astype(np.float32)
    return found


def _ratio(samples: Array, bed: Array) -> float:
    """Return the gain that makes a bed as loud as the loud tenths of a second of a sound."""
    powers = _powers(samples)
    loud = powers[powers >= 0.03 * powers.max()].mean()
    return float(np.sqrt(loud / max(float(np.square(bed).mean()), 1e-12)))


def _fainter(samples: Array, rng: np.random.Generator) -> Array:
    fainter = samples * 10 ** (rng.uniform(*GAIN_DB) / 20)
    found: Array = np.clip(fainter, -1.0, 1.0).astype(np.float32)
    return found


def _cut(samples: Array, rng: np.random.Generator) -> Array:
    """Return the part of a sound that is loud enough, or sometimes a part of that."""
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


def _groups(folder: Path) -> Callable[[str], str]:
    """Return a function from author to group: a fold of ESC-10, or a hash of the name."""
    folds: dict[str, str] = {}
    for row in dataset.read_labels(folder / "esc10"):
        folds.setdefault(row["author"].casefold(), row["fold"])

    def group_of(author: str) -> str:
        name = author.casefold()
        return folds.get(name) or str(hashlib.sha256(name.encode()).digest()[0] % N_GROUPS + 1)

    return group_of
