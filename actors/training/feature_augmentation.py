"""Augmentation of labelled clips: noisy copies, with about the same duration for each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from actors.science.detection.chunks import RATE_HZ
from actors.science.types import BACKGROUND
from actors.training import dataset
from actors.training.dataset import Examples, LabelledClip

Piece = TypeVar("Piece")

#: Seconds of training sound for all classes together, copies included, and the most copies of any
#: clip. More takes longer: this much takes a minute to process.
LEARNT_S = 6_000.0
MOST_COPIES = 8

#: Longer clips are split into pieces of this length.
PIECE = 10 * RATE_HZ

#: Background beds as a share of all copies, and their minimum number.
BED_SHARE, FEWEST_BEDS = 0.15, 40


def make(clips: Sequence[LabelledClip], *, seed: int, tell: Callable[[float], None]) -> Examples:
    """Make chunks of copies of the clips over beds, and of beds alone as background.

    ``tell`` receives the fraction that is done before each copy; an exception from it stops the
    work.
    """
    rng = np.random.default_rng(seed)
    taken = list(balanced(clips, rng))
    n_beds = max(FEWEST_BEDS, round(BED_SHARE * len(taken)))
    groups = sorted({clip.group for clip in clips})
    parts: list[Examples] = []
    for number, clip in enumerate(taken):
        tell(number / (len(taken) + n_beds))
        parts.append(dataset.copy(clip, rng))
    for number, bed in enumerate(dataset.beds(rng, groups=groups, how_many=n_beds)):
        tell((len(taken) + number) / (len(taken) + n_beds))
        parts.append(dataset.plain(bed, rng))
    return dataset.joined(parts)


def balanced(clips: Sequence[LabelledClip], rng: np.random.Generator) -> Iterator[LabelledClip]:
    """Repeat every class's pieces in random order until it has its share of `LEARNT_S`.

    No piece is taken more than `MOST_COPIES` times; a class with many clips loses some.
    """
    by_class: dict[str, list[LabelledClip]] = defaultdict(list)
    for clip in clips:
        by_class[clip.label].extend(split(clip))
    for label in sorted(by_class):
        pieces = by_class[label]
        total_s = sum(piece.samples.size for piece in pieces) / RATE_HZ
        share = LEARNT_S / len(by_class) / total_s if total_s else 0.0
        yield from rounds(pieces, rng, how_often=min(share, MOST_COPIES))


def rounds(
    pieces: Sequence[Piece], rng: np.random.Generator, *, how_often: float
) -> Iterator[Piece]:
    """Repeat pieces in random order, each ``how_often`` times on average; at least one piece."""
    n_taken = max(1, round(how_often * len(pieces)))
    order = [rng.permutation(len(pieces)) for _ in range(0, n_taken, len(pieces) or 1)]
    for number in np.concatenate(order)[:n_taken].tolist():
        yield pieces[number]


def split(clip: LabelledClip) -> Iterator[LabelledClip]:
    """Return the pieces of `PIECE` samples in which the clip's sound is audible."""
    return parts(clip, starts=range(0, clip.samples.size, PIECE), length=PIECE)


def parts(clip: LabelledClip, *, starts: Iterable[int], length: int) -> Iterator[LabelledClip]:
    """Return parts of a clip, without those in which its sound is inaudible."""
    if not clip.samples.any():
        return
    loudest = dataset.loudest_second(clip.samples)
    for start in starts:
        part = clip.samples[start : start + length]
        below_db = 10 * np.log10(loudest / max(dataset.loudest_second(part), 1e-20))
        if clip.label == BACKGROUND or below_db < dataset.STRONG_DB:
            yield replace(clip, samples=part)
