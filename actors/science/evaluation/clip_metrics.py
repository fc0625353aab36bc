"""Accuracy and calibration of the labels of clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.evaluation.metrics import Score

#: As in Guo et al. More bins show more detail and are noisier.
N_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The clips whose confidence is in ``(low, high]``.

    ``confidence`` is their mean confidence, ``accuracy`` the fraction of correct ones; both NaN
    without clips.
    """

    low: float
    high: float
    n_clips: int
    confidence: float
    accuracy: float


def clip_accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Return the fraction of correctly labelled clips, in [0, 1].

    Raises
    ------
    ValueError
        If there are no clips, or not as many predictions as clips.
    """
    if not truth:
        raise ValueError("there is at least one clip")
    return sum(a == b for a, b in zip(truth, predicted, strict=True)) / len(truth)


def confusion_matrix(
    truth: Sequence[str], predicted: Sequence[str], *, classes: Sequence[str]
) -> NDArray[np.int64]:
    """Count the predictions of each class by true class.

    Returns
    -------
    numpy.ndarray [shape=(n_classes, n_classes)]
        Clips of the row's class that were labelled with the column's.

    Raises
    ------
    ValueError
        If a label is not in ``classes``, or there are not as many predictions as clips.
    """
    position = {label: index for index, label in enumerate(classes)}
    strangers = sorted({*truth, *predicted} - position.keys())
    if strangers:
        raise ValueError(f"labels that are no class: {strangers}")
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for a, b in zip(truth, predicted, strict=True):
        matrix[position[a], position[b]] += 1
    return matrix


def per_class(
    truth: Sequence[str], predicted: Sequence[str], *, classes: Sequence[str]
) -> dict[str, Score]:
    """Return precision, recall and F1 of each class against all others.

    The recall of a class that is never true and the precision of one that is never predicted are
    NaN. Errors are those of `confusion_matrix`.
    """
    matrix = confusion_matrix(truth, predicted, classes=classes)
    columns = (matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist())
    return {label: Score(*counts) for label, *counts in zip(classes, *columns, strict=True)}


def reliability_table(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    n_bins: int = N_BINS,
) -> list[ReliabilityBin]:
    """Tabulate confidence against accuracy, in bins of equal width.

    The confidence of a clip is its largest probability; the clip is correct if that is in the
    column of its class, the first one of equal probabilities. Bin m of M contains the confidences
    in ((m - 1) / M, m / M], and the first one also 0.

    Parameters
    ----------
    probabilities : numpy.ndarray [shape=(n_clips, n_classes)]
        Of each class, in [0, 1].
    truth : numpy.ndarray [shape=(n_clips,)]
        The column of the true class.
    n_bins
        Number of bins.

    Returns
    -------
    list of ReliabilityBin
        From 0 to 1, empty bins included.

    Raises
    ------
    ValueError
        If shapes do not match, there are no clips or bins, or a value is outside its range.

    Notes
    -----
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    if (
        probabilities.ndim != 2
        or 0 in probabilities.shape
        or truth.shape != probabilities.shape[:1]
    ):
        raise ValueError("there is a row of probabilities and a true class for each clip")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities lie in [0, 1]")
    if truth.min() < 0 or truth.max() >= probabilities.shape[1]:
        raise ValueError("a true class is the number of a column")
    if n_bins < 1:
        raise ValueError("there is at least one bin")
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_right = probabilities.argmax(axis=1) == truth
    edges = np.arange(n_bins + 1) / n_bins
    of_bin = np.searchsorted(edges[1:-1], confidence, side="left")
    table = []
    for index in range(n_bins):
        inside = of_bin == index
        n_clips = int(inside.sum())
        table.append(
            ReliabilityBin(
                low=float(edges[index]),
                high=float(edges[index + 1]),
                n_clips=n_clips,
                confidence=float(confidence[inside].mean()) if n_clips else np.nan,
                accuracy=float(is_right[inside].mean()) if n_clips else np.nan,
            )
        )
    return table


def expected_calibration_error(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.integer],
    *,
    n_bins: int = N_BINS,
) -> float:
    """Return the weighted mean difference of confidence and accuracy, in [0, 1].

    ``sum(n_m / n * abs(accuracy_m - confidence_m))`` over the bins of `reliability_table`, which
    has the same parameters, errors and source. It is biased upwards: with few clips per bin, even a
    perfectly calibrated classifier does not reach 0.
    """
    table = reliability_table(probabilities, truth, n_bins=n_bins)
    gaps = sum(own.n_clips * abs(own.accuracy - own.confidence) for own in table if own.n_clips)
    return gaps / len(truth)
