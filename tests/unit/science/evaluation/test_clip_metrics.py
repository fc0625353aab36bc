"""Accuracy of clip labels, and calibration of their confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.evaluation.clip_metrics import (
    clip_accuracy,
    confusion_matrix,
    expected_calibration_error,
    per_class,
    reliability_table,
)
from actors.science.evaluation.metrics import Score

CLASSES = ("bark", "rain", "horn")
_pairs = st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1)


def drawn(n_clips: int, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities, and true classes drawn from them: perfectly calibrated."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.4, 0.4, 0.4, 0.4], size=n_clips)
    truth = (rng.random((n_clips, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return probabilities, truth


def test_labels_are_counted() -> None:
    truth = ["bark", "bark", "rain", "rain", "rain"]
    predicted = ["bark", "rain", "rain", "rain", "bark"]
    assert clip_accuracy(truth, predicted) == 0.6
    matrix = confusion_matrix(truth, predicted, classes=CLASSES)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    scores = per_class(truth, predicted, classes=CLASSES)
    assert scores["bark"] == Score(n_hits=1, n_reference=2, n_estimated=2)
    assert scores["rain"].precision == pytest.approx(2 / 3)
    assert math.isnan(scores["horn"].recall)
    assert math.isnan(scores["horn"].precision)


@settings(max_examples=50)
@given(pairs=_pairs)
def test_the_matrix_holds_the_other_scores(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = [a for a, _ in pairs], [b for _, b in pairs]
    matrix = confusion_matrix(truth, predicted, classes=CLASSES)
    assert matrix.sum() == len(pairs)
    assert clip_accuracy(truth, predicted) == pytest.approx(matrix.trace() / len(pairs))
    assert confusion_matrix(predicted, truth, classes=CLASSES).tolist() == matrix.T.tolist()
    one, other = (
        per_class(truth, predicted, classes=CLASSES),
        per_class(predicted, truth, classes=CLASSES),
    )
    for label in CLASSES:
        assert one[label].precision == pytest.approx(other[label].recall, nan_ok=True)
        assert one[label].n_reference == truth.count(label)


def test_a_calibrated_classifier_has_almost_no_error() -> None:
    probabilities, truth = drawn(40_000, seed=0)
    error = expected_calibration_error(probabilities, truth)
    # The noise of 40,000 draws in about ten non-empty bins, and no more.
    assert 0 < error < 0.01
    # Strongly overconfident: the same truth with sharpened probabilities.
    sharp = probabilities**4
    sharp /= sharp.sum(axis=1, keepdims=True)
    assert expected_calibration_error(sharp, truth) > 0.1


def test_the_error_is_that_of_the_definition() -> None:
    # Confidences 0.6 (right), 0.6 (wrong), 0.9 (right), 0.8 (wrong).
    probabilities = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.8, 0.2]])
    truth = np.array([0, 1, 1, 1])
    # Five bins: (0.4, 0.6] holds two, (0.6, 0.8] one, (0.8, 1] one.
    expected = (2 * abs(0.5 - 0.6) + abs(0.0 - 0.8) + abs(1.0 - 0.9)) / 4
    assert expected_calibration_error(probabilities, truth, n_bins=5) == pytest.approx(expected)
    table = reliability_table(probabilities, truth, n_bins=5)
    assert [own.n_clips for own in table] == [0, 0, 2, 1, 1]
    assert (table[2].low, table[2].high) == (0.4, 0.6)
    assert table[2].confidence == pytest.approx(0.6)
    assert table[2].accuracy == 0.5
    assert math.isnan(table[0].accuracy)


def test_one_bin_compares_the_means() -> None:
    probabilities, truth = drawn(200, seed=1)
    accuracy = (probabilities.argmax(axis=1) == truth).mean()
    expected = abs(accuracy - probabilities.max(axis=1).mean())
    assert expected_calibration_error(probabilities, truth, n_bins=1) == pytest.approx(expected)


@given(seed=st.integers(0, 1000), n_clips=st.integers(1, 50), n_bins=st.integers(1, 30))
def test_the_table_holds_every_clip_in_its_bin(seed: int, n_clips: int, n_bins: int) -> None:
    probabilities, truth = drawn(n_clips, seed=seed)
    table = reliability_table(probabilities, truth, n_bins=n_bins)
    assert sum(own.n_clips for own in table) == n_clips
    assert all(own.low <= own.confidence <= own.high for own in table if own.n_clips)
    error = expected_calibration_error(probabilities, truth, n_bins=n_bins)
    assert 0 <= error <= 1
    order = np.random.default_rng(seed).permutation(n_clips)
    shuffled = expected_calibration_error(probabilities[order], truth[order], n_bins=n_bins)
    assert shuffled == pytest.approx(error)


@pytest.mark.parametrize(("confidence", "expected"), [(0.0, 0), (0.25, 0), (0.26, 1), (1.0, 3)])
def test_a_bin_holds_its_upper_edge(confidence: float, expected: int) -> None:
    table = reliability_table(np.array([[confidence]]), np.array([0]), n_bins=4)
    assert [own.n_clips for own in table].index(1) == expected


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="clip"):
        clip_accuracy([], [])
    with pytest.raises(ValueError, match="shorter"):
        clip_accuracy(["bark"], [])
    with pytest.raises(ValueError, match="no class"):
        confusion_matrix(["bark"], ["moon"], classes=CLASSES)
    good, truth = np.array([[0.5, 0.5]]), np.array([0])
    for probabilities, columns, n_bins in (
        (good, np.array([0, 1]), 5),
        (good[0], truth, 5),
        (good[:0], truth[:0], 5),
        (good * 3, truth, 5),
        (good * np.nan, truth, 5),
        (good, truth + 2, 5),
        (good, truth, 0),
    ):
        with pytest.raises(ValueError, match=r"row|lie|column|bin"):
            reliability_table(probabilities, columns, n_bins=n_bins)
