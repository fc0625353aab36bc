"""Algorithms: the arrays match scikit-learn's own models, and each learns an easy problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from actors.science.detection import ensemble
from actors.science.detection.ensemble import Estimator
from actors.training import algorithms, calibration, tree_export
from actors.training.calibration import HeldOut

N_FEATURES = 12
NAMES = ("bark", "rain", "siren")

Rows = NDArray[np.float32]
Names = NDArray[np.str_]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few trees and small networks: enough for these problems, and fast."""
    monkeypatch.setattr(algorithms, "N_TREES", 10)
    monkeypatch.setattr(algorithms, "N_NETWORKS", 2)
    monkeypatch.setattr(algorithms, "HIDDEN", 48)
    monkeypatch.setattr(algorithms, "_LEAST_MOVES", 120)
    monkeypatch.setattr(algorithms, "N_FOURIER", 100)


def problem(n_rows: int, *, n_classes: int = 3, spread: float = 0.6, seed: int = 0) -> Any:
    """Return features around one centre a class, labels, and groups of five rows."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(n_classes, N_FEATURES))
    number = np.arange(n_rows) % n_classes
    rows = centres[number] + spread * rng.normal(size=(n_rows, N_FEATURES))
    labels = np.array(NAMES)[number]
    groups = np.array([f"g{row // 15}" for row in range(n_rows)])
    return rows.astype(np.float32), labels, groups


def probabilities(voters: list[Estimator], rows: Rows) -> NDArray[np.float64]:
    return ensemble.vote(voters, [member.logits(rows) for member in voters])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_forest_answers_as_scikit_learns(n_classes: int) -> None:
    rows, labels, _ = problem(300, n_classes=n_classes, spread=2.0)
    grown = RandomForestClassifier(n_estimators=20, min_samples_leaf=3, random_state=0).fit(
        rows, labels
    )
    forest = tree_export.forest((each.tree_ for each in grown.estimators_), n_features=N_FEATURES)
    others = problem(500, n_classes=n_classes, spread=3.0, seed=1)[0]
    np.testing.assert_allclose(
        probabilities([forest], others), grown.predict_proba(others), atol=5e-4
    )


def test_rows_on_a_threshold_go_where_scikit_learn_sends_them() -> None:
    """Features are whole tenths: thresholds between them are no float32, with rows close by."""
    rows = np.round(problem(300, spread=2.0)[0], 1)
    rows = np.concatenate([rows, np.nextafter(rows, np.float32(9))])
    labels = np.tile(problem(300)[1], 2)
    grown = RandomForestClassifier(n_estimators=10, random_state=0).fit(rows, labels)
    forest = tree_export.forest((each.tree_ for each in grown.estimators_), n_features=N_FEATURES)
    np.testing.assert_allclose(probabilities([forest], rows), grown.predict_proba(rows), atol=5e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["lda", "logistic_regression", "mlp"])
def test_networks_answer_as_scikit_learns(
    name: str, n_classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the model that scikit-learn fitted, and compare its answers on the same rows."""
    kept: list[Any] = []
    kind = {
        "lda": "LinearDiscriminantAnalysis",
        "logistic_regression": "LogisticRegression",
        "mlp": "MLPClassifier",
    }[name]
    original: Any = getattr(algorithms, kind)

    class Kept(original):  # type: ignore[misc]
        def fit(self, inputs: Any, labels: Any) -> Any:
            kept.append(self)
            return super().fit(inputs, labels)

    monkeypatch.setattr(algorithms, kind, Kept)
    rows, labels, groups = problem(300, n_classes=n_classes, spread=2.0)
    voters = algorithms.fit(name, rows, labels, groups=groups, seed=0)
    assert len(kept) == len(voters)
    others = problem(200, n_classes=n_classes, spread=3.0, seed=1)[0]
    for member, fitted in zip(voters, kept, strict=True):
        arrays = member.arrays
        inputs = ensemble.standardised(others, mean=arrays["mean"], scale=arrays["scale"])
        np.testing.assert_allclose(
            probabilities([member], others), fitted.predict_proba(inputs), atol=1e-4
        )


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_each_learns_an_easy_problem(name: str, n_classes: int) -> None:
    rows, labels, groups = problem(300, n_classes=n_classes)
    voters = algorithms.fit(name, rows, labels, groups=groups, seed=0)
    assert all(member.n_classes == n_classes for member in voters)
    others, truth, _ = problem(300, n_classes=n_classes, seed=1)
    found = np.array(NAMES)[probabilities(voters, others).argmax(axis=1)]
    assert (found == truth).mean() > 0.95


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_the_same_seed_gives_the_same_bits(name: str) -> None:
    rows, labels, groups = problem(150)
    first, again = (algorithms.fit(name, rows, labels, groups=groups, seed=5) for _ in range(2))
    for ours, theirs in zip(first, again, strict=True):
        assert (ours.weight, ours.temperature) == (theirs.weight, theirs.temperature)
        for key, values in ours.arrays.items():
            assert values.tobytes() == theirs.arrays[key].tobytes()


def test_a_vote_shares_alike_and_is_calibrated() -> None:
    rows, labels, groups = problem(150, spread=2.0)
    voters = algorithms.fit("vote", rows, labels, groups=groups, seed=0)
    assert sum(member.weight for member in voters) == pytest.approx(len(algorithms.VOTERS))
    assert len({member.temperature for member in voters}) > 1


def test_a_vote_learns_from_two_groups() -> None:
    rows, labels, _ = problem(60)
    groups = np.repeat(["a", "b"], 30)
    voters = algorithms.fit("vote", rows, labels, groups=groups, seed=0)
    assert (np.array(NAMES)[probabilities(voters, rows).argmax(axis=1)] == labels).mean() > 0.9


@pytest.mark.parametrize("true_factor", [0.5, 1.0, 3.0])
def test_calibration_finds_the_temperature(true_factor: float) -> None:
    """Labels drawn from a network's own probabilities at a temperature give it back."""
    rng = np.random.default_rng(0)
    rows, labels, groups = problem(300, spread=2.0)
    voters = algorithms.fit("lda", rows, labels, groups=groups, seed=0)
    many = problem(20_000, spread=2.0, seed=1)[0]
    logits = [member.logits(many) for member in voters]
    drawn = ensemble.vote(calibration.warmer(voters, true_factor), logits)
    truth = (drawn.cumsum(axis=1) < rng.random((len(many), 1))).sum(axis=1).clip(max=2)
    found = calibration.factor([HeldOut(voters, logits, truth)])
    assert found == pytest.approx(true_factor, rel=0.12)
