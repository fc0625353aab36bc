"""The folder of recordings that the shipped model is made from and measured on.

It holds ``esc10/``, ``everyday/``, ``backgrounds/`` and ``soundscapes/``. Sounds of one author, or
of one fold of ESC-10, are in one group.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.science.audio_io.prepare import read_mono
from actors.science.detection.tagging.backbone import RATE_HZ, Array
from actors.training.dataset import LabelledClip, Samples
from actors.training.sounds import Sound

#: Groups of sounds; one group at a time is held out.
N_GROUPS = 4


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


def read_labels(folder: Path) -> list[dict[str, str]]:
    """Read the rows of ``labels.csv`` in a data folder."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load_clips(folder: Path, rows: Sequence[dict[str, str]]) -> tuple[list[LabelledClip], str]:
    """Decode and resample the clips of a folder; also return the SHA-256 over all the data.

    A clip's group is its fold: clips of one source recording are in one fold.
    """
    digest = hashlib.sha256()
    clips: list[LabelledClip] = []
    for row in rows:
        path = folder / "clips" / row["file"]
        digest.update(f"{row['file']},{row['label']},{row['fold']}\n".encode())
        digest.update(path.read_bytes())
        clips.append(LabelledClip(row["file"], row["label"], row["fold"], load_mono(path)))
    return clips, digest.hexdigest()


def load_mono(path: Path) -> Samples:
    """Read a recording as mono at 16 kHz, as the split step does."""
    with path.open("rb") as file:
        return np.concatenate(list(read_mono(file)))


def load(path: Path) -> Array:
    """Read a recording as mono at 32 kHz, as the split step does."""
    with path.open("rb") as file:
        return np.concatenate(list(read_mono(file, to_hz=RATE_HZ)))


def sounds(folder: Path) -> Iterator[Sound]:
    """Read the labelled sounds of a folder, each with its group."""
    for row in read_labels(folder / "esc10"):
        samples = load(folder / "esc10" / "clips" / row["file"])
        yield Sound(row["file"], (row["label"],), row["fold"], samples, origin="esc10")
    group_of = _groups(folder)
    for row in read_labels(folder / "everyday"):
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


def _groups(folder: Path) -> Callable[[str], str]:
    """Return a function from author to group: a fold of ESC-10, or a hash of the name."""
    folds: dict[str, str] = {}
    for row in read_labels(folder / "esc10"):
        folds.setdefault(row["author"].casefold(), row["fold"])

    def group_of(author: str) -> str:
        name = author.casefold()
        return folds.get(name) or str(hashlib.sha256(name.encode()).digest()[0] % N_GROUPS + 1)

    return group_of
