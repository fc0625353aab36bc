"""Comparison of the estimators of the shipped model's recipe, for docs/accuracy.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from actors.science.detection.ensemble import Estimator
from actors.science.evaluation import clip_metrics
from actors.science.types import BACKGROUND
from actors.training.calibration import ClipScores
from actors.training.partners import PARTNERS
from actors.training.shipped_model import held_out, markdown, recipe

#: Conditions in which clips are classified, and their signal-to-noise ratios in dB.
CONDITIONS: Mapping[str, float | None] = {"clean": None, "10 dB": held_out.NOISY_DB}

#: Name of the vote of all estimators.
VOTE = "the vote of all"

Choose = Callable[[Sequence[Estimator]], Sequence[Estimator]]

#: The compared ensembles: all estimators, or some of them alone.
VOTERS: Mapping[str, Choose] = {
    "the network alone": lambda members: members[: recipe.N_NETWORKS],
    "the vote without the network": lambda members: members[recipe.N_NETWORKS :],
    **{
        f"the vote without {name}": lambda members, n=number: [  # type: ignore[misc]
            *members[:n],
            *members[n + 1 :],
        ]
        for number, name in enumerate(PARTNERS, start=recipe.N_NETWORKS)
    },
    VOTE: list,
}


@dataclass(frozen=True, eq=False)
class Measured:
    """Scores of clips by held-out models, by ensemble and by condition."""

    named: Mapping[str, Mapping[str, ClipScores]]
    calibration: Mapping[str, float]
    temperature: float


def write(measured: Measured) -> list[str]:
    """Return the lines of the report."""
    vote = measured.named[VOTE]
    return [
        "## The members of the shipped model",
        "",
        "Which of the ten classes of ESC-10 is the likeliest, for clips by models that were trained"
        " without their fold. This compares members; it is not what the product answers.",
        *markdown.table(
            ["", *CONDITIONS],
            (
                [voters, *(f"{each.accuracy:.1%}" for each in of.values())]
                for voters, of in measured.named.items()
            ),
        ),
        f"Expected calibration error of the vote: {measured.calibration['clean']:.3f} clean,"
        f" {measured.calibration['10 dB']:.3f} at 10 dB, with each fold's temperature fitted on"
        f" the other folds; the model's own is {measured.temperature:.2f}. Right answers by fold:"
        f" {_by_fold(vote['clean'])} clean, {_by_fold(vote['10 dB'])} at 10 dB. Background is the"
        f" likeliest of all for {vote['clean'].missed:.1%} of the clips clean and"
        f" {vote['10 dB'].missed:.1%} at 10 dB.",
        *_class_table(vote),
    ]


def _by_fold(clips: ClipScores) -> str:
    right = clips.best == clips.truth
    return ", ".join(f"{right[clips.folds == fold].mean():.1%}" for fold in np.unique(clips.folds))


def _class_table(vote: Mapping[str, ClipScores]) -> list[str]:
    classes = [name for name in vote["clean"].classes if name != BACKGROUND]
    scores = {
        condition: clip_metrics.per_class(each.truth.tolist(), each.best.tolist(), classes=classes)
        for condition, each in vote.items()
    }
    heads = [f"{what}, {condition}" for condition in CONDITIONS for what in ("recall", "precision")]
    return markdown.table(
        ["class", *heads],
        (
            [
                name,
                *(
                    f"{value:.0%}"
                    for of in scores.values()
                    for value in (of[name].recall, of[name].precision)
                ),
            ]
            for name in sorted(set(vote["clean"].truth.tolist()))
        ),
    )
