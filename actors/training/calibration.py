"""Calibration of probabilities: temperatures that make held-out sounds most likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import ensemble
from actors.science.detection.ensemble import Estimator, Logits
from actors.science.types import BACKGROUND

#: Candidate temperatures for calibration.
TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(10.0), 93))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Estimators, their logits for windows that were held out, and the true columns."""

    voters: Sequence[Estimator]
    logits: Sequence[Logits]
    truth: NDArray[np.intp]


def factor(held_out: Sequence[HeldOut]) -> float:
    """Return the factor on all temperatures that maximises the likelihood of held-out windows."""

    def loss(by: float) -> float:
        chosen = [
            ensemble.vote(each.voters, [logits / by for logits in each.logits])[
                np.arange(len(each.truth)), each.truth
            ]
            for each in held_out
        ]
        return -float(np.log(np.maximum(np.concatenate(chosen), 1e-7)).mean())

    return min((float(step) for step in TEMPERATURES), key=loss)


def warmer(voters: Sequence[Estimator], by: float) -> list[Estimator]:
    """Multiply the temperatures of estimators by a factor."""
    return [replace(each, temperature=each.temperature * by) for each in voters]


@dataclass(frozen=True, eq=False)
class ClipScores:
    """Scores of clips by held-out models: ``scores`` [shape=(n_clips, n_classes)]."""

    truth: NDArray[np.str_]
    folds: NDArray[np.str_]
    scores: NDArray[np.float64]
    classes: tuple[str, ...]

    @property
    def best(self) -> NDArray[np.str_]:
        """The most probable class of each clip, background excluded."""
        sounds = np.where(np.array(self.classes) == BACKGROUND, -1.0, self.scores)
        return np.asarray(np.array(self.classes)[sounds.argmax(axis=1)])

    @property
    def accuracy(self) -> float:
        """Fraction of correctly classified clips."""
        return float((self.best == self.truth).mean())

    @property
    def missed(self) -> float:
        """Fraction of clips whose most probable class is background."""
        background = self.classes.index(BACKGROUND)
        return float((self.scores.argmax(axis=1) == background).mean())

    def at(self, temperature: float) -> ClipScores:
        """Return these clips with the scores at another temperature."""
        sharpened = np.maximum(self.scores, 1e-9) ** (1.0 / temperature)
        return replace(self, scores=sharpened / sharpened.sum(axis=1, keepdims=True))

    def where(self, kept: NDArray[np.bool_]) -> ClipScores:
        """Select the clips of a mask."""
        return replace(
            self, truth=self.truth[kept], folds=self.folds[kept], scores=self.scores[kept]
        )


def fit_temperature(measured: Sequence[ClipScores]) -> float:
    """Return the temperature that maximises the likelihood of the truth, in steps of 0.05."""

    def loss(temperature: float) -> float:
        return float(np.mean([_surprise(each.at(temperature)) for each in measured]))

    return float(min(np.round(np.arange(0.3, 4.01, 0.05), 2), key=loss))


def _surprise(measured: ClipScores) -> float:
    columns = [measured.classes.index(label) for label in measured.truth.tolist()]
    chosen = measured.scores[np.arange(len(columns)), columns]
    return -float(np.log(np.maximum(chosen, 1e-9)).mean())
