"""What a sound is, by the model that a session uses and by the base types beside it.

A model knows its own classes and takes everything for one of them. The base types are many and
were learnt from much more sound, but a model knows its own classes better. So the base types say
how likely it is that the sound is of one of the model's classes at all, and both say which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors import noise_types
from actors.science import tagger
from actors.science.tagger import Tagger
from actors.science.types import BACKGROUND

Floats = NDArray[np.float64]

#: What a type that the model does not have counts beside one that it has. Less of it keeps more of
#: what the model is good at, and names fewer sounds of other kinds.
STRANGE_WEIGHT = 0.5

#: An event is reported as a type from this probability on, and as a group from this one on.
LEAST_OF_TYPE, LEAST_OF_GROUP = 0.35, 0.55

#: Gives the samples ``[start, stop)`` of a recording at 32 kHz, silent outside of it.
ReadWide = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class SecondOpinion:
    """The base types, and the recording at the rate that they are found at."""

    tagger: Tagger
    read: ReadWide
    n_samples: int

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the columns of `of`."""
        return self.tagger.types

    def of(self, start: int, stop: int) -> Floats:
        """Compute the probabilities [shape=(n_types,)] of the samples ``[start, stop)``."""
        ranges = tagger.pieces_of(max(0, start), stop, n_samples=self.n_samples)
        return self.tagger.probabilities([self.read(first, last) for first, last in ranges])


def thresholds() -> dict[str, float]:
    """Return the confidence from which on an event counts, for all base types and groups."""
    return {
        name: LEAST_OF_GROUP if row.parent is None else LEAST_OF_TYPE
        for name, row in noise_types.table().items()
    }


def names(classes: Sequence[str], types: Sequence[str]) -> tuple[str, ...]:
    """Name the columns of `combined`: the model's classes, then the other base types."""
    return (*classes, *(name for name in types if name not in classes))


def combined(
    own: NDArray[np.floating], base: Floats, *, classes: Sequence[str], types: Sequence[str]
) -> Floats:
    """Combine the probabilities of both.

    Parameters
    ----------
    own : numpy.ndarray [shape=(n_classes,)]
        By the model, for each of its ``classes``.
    base : numpy.ndarray [shape=(n_types,)]
        By the tagger, for each of its ``types``.

    Returns
    -------
    numpy.ndarray
        A probability for each of `names`; they sum to 1. Classes that the base types do not have
        keep what the model gives them. Of the rest, each base type that the model does not have
        keeps its share, by `STRANGE_WEIGHT`; what the base types leave to the model's classes is
        divided by the geometric mean of both.
    """
    columns = {name: index for index, name in enumerate(names(classes, types))}
    at_own = np.array([columns[name] for name in classes])
    at_base = np.array([columns[name] for name in types])
    by_own, by_base = np.zeros(len(columns)), np.zeros(len(columns))
    by_own[at_own], by_base[at_base] = own, base
    by_base[np.setdiff1d(at_base, at_own)] *= STRANGE_WEIGHT
    by_base /= by_base.sum()
    shared, strange = np.intersect1d(at_own, at_base), np.setdiff1d(at_own, at_base)
    both = np.sqrt(by_own[shared] * by_base[shared])
    found = by_base.copy()
    if both.sum() > 0.0:
        found[shared] = by_base[shared].sum() * both / both.sum()
    found *= 1.0 - by_own[strange].sum()
    found[strange] = by_own[strange]
    total: Floats = found / found.sum()
    return total


def answer(
    shares: NDArray[np.floating], columns: Sequence[str], least: Mapping[str, float]
) -> tuple[str, float]:
    """Choose the type that a sound is reported as, and its probability.

    The likeliest type, if it is likely enough; else the nearest type or group above it whose
    types together are; else the likeliest group that is. ``least`` has the least probability of
    each type and group; one that is not there is never reported. Returns `BACKGROUND` where
    background is likeliest, and an empty name where nothing is likely enough.
    """
    likely = {name: float(shares[index]) for index, name in enumerate(columns)}
    best = columns[int(np.argmax(shares))]
    if best == BACKGROUND:
        return BACKGROUND, likely[best]
    for name in (*_upwards(best), *_groups(likely)):
        mass = _mass(name, likely)
        if mass >= least.get(name, np.inf):
            return name, min(mass, 1.0)
    return "", likely[best]


def _upwards(name: str) -> list[str]:
    table = noise_types.table()
    path = [name]
    while (row := table.get(path[-1])) is not None and row.parent is not None:
        path.append(row.parent)
    return path


def _groups(likely: Mapping[str, float]) -> list[str]:
    """The groups by the probability of all their types, the likeliest first."""
    groups = [name for name, row in noise_types.table().items() if row.parent is None]
    return sorted(groups, key=lambda name: -_mass(name, likely))


def _mass(name: str, likely: Mapping[str, float]) -> float:
    """The probability of a type or group with all types below it."""
    return sum(likely.get(each, 0.0) for each in noise_types.below(name))
