"""How a segment is classified: by a model alone, with base types beside it, or by these alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import open_set, second_opinion, segmentation
from actors.science.detection.chunks import RATE_HZ, STEP, Grid
from actors.science.detection.classifier import Classifier
from actors.science.detection.decoding import Segment
from actors.science.detection.ensemble import Array
from actors.science.detection.second_opinion import Opinion, SecondOpinion
from actors.science.detection.tagging import backbone
from actors.science.types import TypeProbability

#: Returns the class probabilities [shape=(n_classes,)] of the frames ``[first, stop)``.
ScoreSegment = Callable[[int, int], Array]
#: Returns those by each estimator [shape=(n_estimators, n_classes)].
Votes = Callable[[int, int], NDArray[np.float64]]


def least_of(model: Classifier, *, with_base_types: bool) -> dict[str, float]:
    """Return the minimum confidence of an event, for every type that it may have."""
    own = dict.fromkeys(model.classes, segmentation.THRESHOLD) | dict(model.thresholds)
    if not with_base_types:
        return own
    base = second_opinion.thresholds()
    return base | {name: p for name, p in own.items() if name not in base}


def classifiers(
    score: ScoreSegment,
    model: Classifier,
    opinion: SecondOpinion | None,
    least: Mapping[str, float],
    grid: Grid,
    gate_votes: Votes | None = None,
) -> tuple[segmentation.ClassifySegment, segmentation.ClassifySegment | None]:
    """Return the classifier of segments, and that of steady sound if there are base types.

    ``score`` and ``gate_votes`` classify by the model and by its gate; the latter is used only
    without base types.
    """
    if opinion is None:
        named = by_model(score, model, least)
        return (named if gate_votes is None else gated(named, gate_votes, model)), None
    return by_both(score, model, opinion, least, grid), by_base_types(opinion, least, grid)


def by_model(
    score: ScoreSegment, model: Classifier, least: Mapping[str, float]
) -> segmentation.ClassifySegment:
    """Classify a segment as the model's most probable class, if that reaches its threshold."""

    def name(first: int, stop: int) -> segmentation.Named:
        return segmentation.likeliest(score(first, stop), classes=model.classes, least=least)

    return name


def gated(
    classify: segmentation.ClassifySegment, gate_votes: Votes, model: Classifier
) -> segmentation.ClassifySegment:
    """Reject the types of segments that are probably of another type.

    Their candidates are kept.
    """
    gate = model.gate
    assert gate is not None
    weights = [member.weight for member in gate.members]

    def name(first: int, stop: int) -> segmentation.Named:
        found = classify(first, stop)
        if not found.answers:
            return found
        [answer] = found.answers
        by_gate = gate_votes(first, stop)[:, gate.classes.index(answer.noise_type)]
        is_known = open_set.is_known(answer.score, by_gate, weights=weights)
        return found if is_known else replace(found, answers=())

    return name


def by_both(
    score: ScoreSegment,
    model: Classifier,
    opinion: SecondOpinion,
    least: Mapping[str, float],
    grid: Grid,
) -> segmentation.ClassifySegment:
    """Classify a segment by the model and by the base types."""

    def name(first: int, stop: int) -> segmentation.Named:
        base = opinion.of(*_wide(first, stop, grid))
        likely = second_opinion.combined(
            score(first, stop), base.likely, classes=model.classes, trained=model.trained_types
        )
        return _named(likely, least, base, grid)

    return name


def by_base_types(
    opinion: SecondOpinion, least: Mapping[str, float], grid: Grid
) -> segmentation.ClassifySegment:
    """Classify steady sound by the base types alone.

    Groups are never reported, and types only above a raised threshold: most steady sound of which
    only the group is probable is background.
    """
    raised = {
        name: max(least.get(name, 0.0), second_opinion.LEAST_OF_STEADY)
        for name in opinion.tagger.types
    }

    def name(first: int, stop: int) -> segmentation.Named:
        base = opinion.of(*_wide(first, stop, grid))
        return _named(base.likely, raised, base, grid)

    return name


def _named(
    likely: Mapping[str, float], least: Mapping[str, float], base: Opinion, grid: Grid
) -> segmentation.Named:
    """Classify by ``likely``; order the candidates, and add the overlays in frames of the grid."""
    named = second_opinion.named(likely, least)
    per_step = STEP * backbone.RATE_HZ // RATE_HZ
    lead = grid.lead * backbone.RATE_HZ // RATE_HZ
    overlays = [
        (
            Segment((each.start + lead) // per_step, -(-(each.stop + lead) // per_step)),
            TypeProbability(each.noise_type, each.probability),
        )
        for each in second_opinion.apart(base.overlays, named.answers)
    ]
    candidates = second_opinion.ranked(named.candidates, base.evidence)
    return replace(named, candidates=candidates, overlays=overlays)


def _wide(first: int, stop: int, grid: Grid) -> tuple[int, int]:
    """Return the samples at 32 kHz of the frames ``[first, stop)``."""
    factor = backbone.RATE_HZ // RATE_HZ
    return (first * STEP - grid.lead) * factor, (stop * STEP - grid.lead) * factor
