"""Estimators: outputs match their arrays, and crafted arrays are rejected."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.science.detection import ensemble
from actors.science.detection.ensemble import Network
from actors.science.detection.forest import LEAF, Forest
from actors.science.errors import ModelError
from actors.science.types import AnyArray

N_IN = 7


def trees(**changes: AnyArray) -> dict[str, AnyArray]:
    """Return two trees: one has two splits, the other is a leaf."""
    plain: dict[str, AnyArray] = {
        "roots": np.array([0, 5], dtype=np.int32),
        "feature": np.array([0, 1, LEAF, LEAF, LEAF, LEAF], dtype=np.int16),
        "threshold": np.array([0.0, 0.5, 0, 0, 0, 0], dtype=np.float32),
        "right": np.array([4, 3, 0, 1, 2, 3], dtype=np.int32),
        "values": np.array([[1, 0], [0.25, 0.75], [0, 1], [0.5, 0.5]], dtype=np.float16),
    }
    return {**plain, **changes}


def layers(**changes: AnyArray) -> dict[str, AnyArray]:
    rng = np.random.default_rng(0)
    plain: dict[str, AnyArray] = {
        "mean": rng.normal(size=N_IN),
        "scale": np.ones(N_IN),
        "0.weights": rng.normal(size=(N_IN, 5)),
        "0.biases": rng.normal(size=5),
        "1.weights": rng.normal(size=(5, 3)),
        "1.biases": rng.normal(size=3),
    }
    return {**{name: values.astype(np.float32) for name, values in plain.items()}, **changes}


def test_a_tree_asks_its_way_to_a_leaf() -> None:
    forest = Forest(arrays=trees(), n_features=2)
    rows = np.array([[0.0, 0.5], [-1, 0.6], [0.1, 0]], dtype=np.float32)
    expected = (np.array([[1, 0], [0.25, 0.75], [0, 1]]) + 0.5) / 2
    np.testing.assert_allclose(ensemble.vote([forest], [forest.logits(rows)]), expected, atol=1e-5)


def test_many_rows_are_as_each_alone() -> None:
    forest = Forest(arrays=trees(), n_features=2)
    rows = np.random.default_rng(0).normal(size=(600_000, 2)).astype(np.float32)
    together = forest.logits(rows)
    some = [0, 1, 299_999, 524_287, 524_288, 599_999]
    np.testing.assert_array_equal(together[some], forest.logits(rows[some]))


@pytest.mark.parametrize("activation", ["relu", "cos"])
def test_a_network_is_its_layers(activation: str) -> None:
    arrays = layers()
    rows = 0.5 * np.random.default_rng(1).normal(size=(9, N_IN)).astype(np.float32)
    hidden = (rows - arrays["mean"]) @ arrays["0.weights"] + arrays["0.biases"]
    hidden = np.cos(hidden) if activation == "cos" else np.maximum(hidden, 0)
    expected = hidden @ arrays["1.weights"] + arrays["1.biases"]
    network = Network(arrays=arrays, activation=activation)
    np.testing.assert_allclose(network.logits(rows), expected, rtol=1e-4, atol=1e-5)


def test_temperature_flattens_and_weights_share() -> None:
    network = Network(arrays=layers())
    rows = np.random.default_rng(1).normal(size=(20, N_IN)).astype(np.float32)
    logits = network.logits(rows)
    sure = ensemble.vote([network], [logits])
    unsure = ensemble.vote([replace(network, temperature=5.0)], [logits])
    assert (unsure.max(axis=1) < sure.max(axis=1)).all()
    np.testing.assert_array_equal(unsure.argmax(axis=1), sure.argmax(axis=1))
    both = [replace(network, weight=3.0), replace(network, temperature=5.0)]
    np.testing.assert_allclose(
        ensemble.vote(both, [logits, logits]), 0.75 * sure + 0.25 * unsure, atol=1e-12
    )


def test_weights_that_overflow_give_probabilities() -> None:
    huge = np.full((5, 3), 3e38, dtype=np.float32)
    network = Network(arrays=layers(**{"1.weights": huge}))
    rows = np.ones((4, N_IN), dtype=np.float32)
    scores = ensemble.vote([network], [network.logits(rows)])
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1.0)


def of(values: Any, dtype: str) -> AnyArray:
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"n_features": 1}),
        ({}, {"n_features": 0}),
        ({}, {"n_features": True}),
        ({}, {"n_features": "2"}),
        ({"bias": of([0, 0], "f4")}, {}),
        ({"roots": of([1, 5], "i4")}, {}),
        ({"roots": of([0, 0], "i4")}, {}),
        ({"roots": of([0, 6], "i4")}, {}),
        ({"roots": of([0, -5], "i4")}, {}),
        ({"roots": of([[0], [5]], "i4")}, {}),
        ({"roots": of([0, 5], "i2")}, {}),
        ({"roots": of([0], "i4")}, {}),
        ({"roots": of([0, 4], "i4")}, {}),
        ({"feature": of([0, 1, LEAF, LEAF, LEAF, -2], "i2")}, {}),
        ({"feature": of([0, 0, 0, 0, 0, 0], "i2")}, {}),
        ({"feature": of([0, LEAF, LEAF, LEAF, LEAF, LEAF], "i2")}, {}),
        ({"feature": of([0, 1, LEAF, LEAF, LEAF], "i2")}, {}),
        ({"threshold": of([np.nan, 0, 0, 0, 0, 0], "f4")}, {}),
        ({"threshold": of([0, 0, 0, 0, 0], "f4")}, {}),
        ({"right": of([0, 3, 0, 1, 2, 3], "i4")}, {}),
        ({"right": of([1, 3, 0, 1, 2, 3], "i4")}, {}),
        ({"right": of([3, 3, 0, 1, 2, 3], "i4")}, {}),
        ({"right": of([5, 3, 0, 1, 2, 3], "i4")}, {}),
        ({"right": of([4, 1 << 30, 0, 1, 2, 3], "i4")}, {}),
        ({"right": of([4, 3, 0, 1, 2, 4], "i4")}, {}),
        ({"right": of([4, 3, 0, 1, 2, -1], "i4")}, {}),
        ({"values": of([[1, 0]] * 3, "f2")}, {}),
        ({"values": of([[-1, 2]] * 4, "f2")}, {}),
        ({"values": of([[np.inf, 0]] * 4, "f2")}, {}),
        ({"values": of([1, 0, 0, 0], "f2")}, {}),
        ({"values": of([[1, 0]] * 4, "i4")}, {}),
    ],
)
def test_crafted_trees_are_refused(changes: dict[str, AnyArray], fields: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        Forest(arrays=trees(**changes), **{"n_features": 2, **fields})


@pytest.mark.parametrize("lacking", ["roots", "feature", "threshold", "right", "values"])
def test_a_forest_that_lacks_an_array_is_refused(lacking: str) -> None:
    kept = {name: values for name, values in trees().items() if name != lacking}
    with pytest.raises(ModelError):
        Forest(arrays=kept, n_features=2)


def test_a_tree_without_end_is_refused() -> None:
    depth = 1_000
    chain: dict[str, AnyArray] = {
        "roots": np.zeros(1, dtype=np.int32),
        "feature": np.array([0] * depth + [LEAF] * (depth + 1), dtype=np.int16),
        "threshold": np.zeros(2 * depth + 1, dtype=np.float32),
        "right": np.array([*range(2 * depth, depth, -1), *[0] * (depth + 1)], dtype=np.int32),
        "values": np.ones((1, 2), dtype=np.float16),
    }
    with pytest.raises(ModelError, match="deeper"):
        Forest(arrays=chain, n_features=2)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": np.zeros(N_IN, dtype=np.float32)},
        {"scale": np.ones(N_IN + 1, dtype=np.float32)},
        {"scale": np.ones(N_IN, dtype=np.int32)},
        {"mean": np.full(N_IN, np.nan, dtype=np.float32)},
        {"0.weights": np.ones((N_IN, 4), dtype=np.float32)},
        {"0.weights": np.ones((N_IN + 1, 5), dtype=np.float32)},
        {"0.weights": np.ones((N_IN, 5), dtype=np.float16)},
        {"1.biases": np.full(3, np.inf, dtype=np.float32)},
        {"what": np.ones(3, dtype=np.float32)},
        {"3.weights": np.ones((3, 3), dtype=np.float32)},
    ],
)
def test_layers_that_do_not_fit_are_refused(changes: dict[str, AnyArray]) -> None:
    with pytest.raises(ModelError):
        Network(arrays=layers(**changes))


@pytest.mark.parametrize("lacking", ["mean", "scale", "0.weights", "0.biases", "1.weights"])
def test_a_network_that_lacks_an_array_is_refused(lacking: str) -> None:
    kept = {name: values for name, values in layers().items() if name != lacking}
    with pytest.raises(ModelError):
        Network(arrays=kept)


def full_trees(n_trees: int, *, depth: int, n_classes: int) -> Forest:
    """Return trees with the same number of splits on every path."""
    rng = np.random.default_rng(0)

    def grow(level: int) -> tuple[list[int], list[int]]:
        if not level:
            return [LEAF], [0]
        (left, left_right), (right, right_right) = grow(level - 1), grow(level - 1)
        shift = 1 + len(left)
        rights = [
            shift,
            *(each + 1 if each else 0 for each in left_right),
            *(each + shift if each else 0 for each in right_right),
        ]
        return [0, *left, *right], rights

    shape, right = (np.array(each) for each in grow(depth))
    n_nodes, is_leaf = shape.size, shape == LEAF
    n_leaves = int(is_leaf.sum())
    nodes = np.concatenate(
        [
            np.where(is_leaf, tree * n_leaves + np.cumsum(is_leaf) - 1, right + tree * n_nodes)
            for tree in range(n_trees)
        ]
    )
    everywhere = np.tile(is_leaf, n_trees)
    arrays = {
        "roots": (np.arange(n_trees) * n_nodes).astype(np.int32),
        "feature": np.where(everywhere, LEAF, rng.integers(0, 300, everywhere.size)).astype("i2"),
        "threshold": rng.normal(size=everywhere.size).astype(np.float32),
        "right": nodes.astype(np.int32),
        "values": rng.dirichlet(np.ones(n_classes), n_trees * n_leaves).astype(np.float16),
    }
    return Forest(arrays=arrays, n_features=300)


def test_a_forest_is_quick() -> None:
    """One row of 100 trees well under 1 ms, 300 rows under 60 ms; the best of several tries."""
    forest = full_trees(100, depth=10, n_classes=16)
    rows = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)

    def best_s(n_rows: int) -> float:
        times: list[float] = []
        for _ in range(15):
            start = time.perf_counter()
            forest.logits(rows[:n_rows])
            times.append(time.perf_counter() - start)
        return min(times)

    assert best_s(1) < 1e-3
    assert best_s(300) < 60e-3
