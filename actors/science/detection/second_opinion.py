"""Classification of a segment by the session's model together with the base types.

A model has a few classes and assigns every sound to one of them. The base types are many, were
trained on much more sound, and are judged independently. So the base types decide what sounds, and
the model contributes to its own classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.facts import noise_types
from actors.science.detection.segmentation import Named, in_order
from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import FRAME
from actors.science.detection.tagging.tagger import Tagger
from actors.science.types import BACKGROUND, TypeProbability

Floats = NDArray[np.float64]

#: Weights of a type's log-odds by the base types and by the model, and what is added to their sum.
OF_BASE, OF_MODEL, OFFSET = 0.9, 0.35, 0.5

#: Minimum probability for reporting an event as a type, and as a group.
LEAST_OF_TYPE, LEAST_OF_GROUP = 0.3, 0.55

#: Minimum probability for reporting further types of a segment.
LEAST_OF_FURTHER = 0.75

#: Minimum probability for reporting a subtype, such as a sneeze, in place of its type.
LEAST_OF_KIND = 0.5

#: Minimum probability for reporting steady sound: most of it is background.
LEAST_OF_STEADY = 0.7

#: Weight of a type's tags in the order of the candidates, beside their weight in its log-odds. What
#: was learned from recordings fits those better than other ones, so the tags count for more where
#: several types are possible. Weights from 0.3 to 1 are equally good (docs/model.md).
OF_TAGS = 0.6

#: Log-odds are clipped here.
_SUREST = 6.0

#: Overlays, which sound during a part of a segment, are searched in windows of this many backbone
#: frames (3.5 s) and need this probability. Their edges are where single frames exceed the third
#: value.
OVERLAY_FRAMES, LEAST_OF_OVERLAY, LEAST_OF_EDGE = 11, 0.95, 0.5

#: Returns the samples ``[start, stop)`` of a recording at 32 kHz, silent outside of it.
ReadWide = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Overlay:
    """A type that sounds in a part of a segment: samples ``[start, stop)`` at 32 kHz."""

    noise_type: str
    start: int
    stop: int
    probability: float


@dataclass(frozen=True)
class Opinion:
    """The probability of each base type in a segment, and the overlays in it.

    ``evidence`` is that of the tags, by type; see `Tagger.evidence`.
    """

    likely: Mapping[str, float]
    evidence: Mapping[str, float]
    overlays: Sequence[Overlay]


@dataclass(frozen=True, eq=False)
class SecondOpinion:
    """The base types, and the recording at their sample rate."""

    tagger: Tagger
    read: ReadWide
    n_samples: int

    def of(self, start: int, stop: int) -> Opinion:
        """Classify the samples ``[start, stop)``."""
        embeddings: list[NDArray[np.float32]] = []
        overlays: list[Overlay] = []
        ranges = tagger.pieces_of(max(0, start), stop, n_samples=self.n_samples)
        for first, last in ranges:
            frames = self.tagger.frames(self.read(first, last))
            embeddings.append(frames.mean(axis=0))
            if len(frames) > OVERLAY_FRAMES:
                overlays += self._overlays(frames, first, last)
        pieces = np.stack(embeddings)
        likely, evidence = (
            dict(zip(self.tagger.types, values.tolist(), strict=True))
            for values in (self.tagger.probabilities(pieces), self.tagger.evidence(pieces))
        )
        return Opinion(likely, evidence, overlays)

    def _overlays(self, frames: NDArray[np.float32], start: int, stop: int) -> Iterator[Overlay]:
        around = self.tagger.over_time(frames, width=OVERLAY_FRAMES)
        columns = np.flatnonzero((around >= LEAST_OF_OVERLAY).any(axis=0)).tolist()
        single = self.tagger.over_time(frames, width=1) if columns else around
        for column in columns:
            is_likely = around[:, column] >= LEAST_OF_OVERLAY
            for run in _runs(is_likely):
                # A window extends half of its width beyond its centre.
                lowest = max(0, run[0] - OVERLAY_FRAMES // 2)
                reached = single[lowest : run[1] + OVERLAY_FRAMES // 2, column] >= LEAST_OF_EDGE
                edges = lowest + np.flatnonzero(reached) if reached.any() else np.arange(*run)
                yield Overlay(
                    self.tagger.types[column],
                    start + int(edges[0]) * FRAME,
                    min(start + (int(edges[-1]) + 1) * FRAME, stop),
                    float(around[slice(*run), column].max()),
                )


def _runs(is_on: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the ranges ``[first, stop)`` in which a mask is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_on, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def thresholds() -> dict[str, float]:
    """Return the minimum confidence of an event, for all base types and groups."""
    return {
        name: LEAST_OF_GROUP if row.parent is None else LEAST_OF_TYPE
        for name, row in noise_types.table().items()
    }


def combined(
    own: NDArray[np.floating],
    base: Mapping[str, float],
    *,
    classes: Sequence[str],
    trained: Sequence[str] = (),
) -> dict[str, float]:
    """Combine the probabilities of the model and of the base types.

    Parameters
    ----------
    own : numpy.ndarray [shape=(n_classes,)]
        By the model, for each of its ``classes``; sums to 1.
    base
        By the base types, each independently.
    trained
        Base types that were trained on a user's examples. The more probable one that the model
        lacks is, the less weight the model gets: it assigns such sounds to its own classes.

    Returns
    -------
    dict
        The probability of each base type and class, without `BACKGROUND`. A type that only one of
        both has keeps its probability. For the others the log-odds are combined.
    """
    found = dict(base)
    new = [base.get(name, 0.0) for name in trained if name not in classes]
    say = 1.0 - max(new, default=0.0)
    for name, share in zip(classes, own.tolist(), strict=True):
        if name in base:
            by_model = OF_MODEL * _log_odds(share) + OFFSET
            weighed = OF_BASE * _log_odds(base[name]) + say * by_model
            found[name] = float(1.0 / (1.0 + np.exp(-weighed)))
        elif name != BACKGROUND:
            found[name] = share
    return found


def named(likely: Mapping[str, float], least: Mapping[str, float]) -> Named:
    """Classify a segment by independent probabilities of types.

    The answer is the most probable type above its threshold, and all others from `LEAST_OF_FURTHER`
    on; subtypes replace their type. If no type qualifies, the answer is the nearest type or group
    above the most probable type for which the probability of any of its types reaches the
    threshold; failing that, the most probable such group. ``least`` has the threshold of each type
    and group; those missing from it are never reported.
    """
    found = in_order(likely)
    sure = [each for each in found if each.score >= least.get(each.noise_type, np.inf)]
    kinds = [each.noise_type for each in sure if each.score >= LEAST_OF_KIND]
    general = {upper for kind in kinds for upper in noise_types.above(kind)}
    special = [each for each in sure if each.noise_type not in general]
    if special:
        further = [each for each in special[1:] if each.score >= LEAST_OF_FURTHER]
        return Named([special[0], *further], found)
    for name in (*noise_types.above(found[0].noise_type), *_groups(likely)):
        if any_of(name, likely) >= least.get(name, np.inf):
            return Named([TypeProbability(name, any_of(name, likely))], found)
    return Named((), found)


def ranked(
    candidates: Sequence[TypeProbability], evidence: Mapping[str, float]
) -> list[TypeProbability]:
    """Order candidates by their log-odds and the ``evidence`` of their tags."""

    def rank(each: TypeProbability) -> float:
        return _log_odds(each.score) + OF_TAGS * evidence.get(each.noise_type, 0.0)

    return sorted(candidates, key=rank, reverse=True)


def exclusive(likely: Mapping[str, float]) -> dict[str, float]:
    """Turn independent probabilities of types into shares of one sound that sum to 1.

    The share of `BACKGROUND` is the probability of none of them.
    """
    none = float(np.prod([1.0 - each for each in likely.values()]))
    total = none + sum(likely.values())
    return {name: each / total for name, each in {**likely, BACKGROUND: none}.items()}


def apart(overlays: Sequence[Overlay], answers: Sequence[TypeProbability]) -> list[Overlay]:
    """Select the overlays that differ from the answers for the whole segment.

    Of several that overlap, the most probable is kept: one sound raises the probability of more
    than one type far more often than two sounds overlap a third.
    """
    told = {
        near
        for answer in answers
        for near in (*noise_types.below(answer.noise_type), *noise_types.above(answer.noise_type))
    }
    kept: list[Overlay] = []
    for each in sorted(overlays, key=lambda overlay: -overlay.probability):
        is_free = not any(each.start < other.stop and other.start < each.stop for other in kept)
        if each.noise_type not in told and is_free:
            kept.append(each)
    return kept


def any_of(name: str, likely: Mapping[str, float]) -> float:
    """Return the probability of a type or any type below it."""
    none = np.prod([1.0 - likely.get(each, 0.0) for each in noise_types.below(name)])
    return float(1.0 - none)


def _groups(likely: Mapping[str, float]) -> list[str]:
    return sorted(noise_types.groups(), key=lambda name: -any_of(name, likely))


def _log_odds(probability: float) -> float:
    cut = min(max(probability, 1e-9), 1.0 - 1e-9)
    return float(np.clip(np.log(cut / (1.0 - cut)), -_SUREST, _SUREST))
