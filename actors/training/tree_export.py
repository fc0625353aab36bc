"""Conversion of scikit-learn's trees to the flat arrays of a `Forest`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.ensemble import LEAF, Forest


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree: its nodes, each left child right after its parent, and its leaves' values.

    ``feature`` is `LEAF` for a leaf; ``right`` is relative to the tree's root; ``values``
    [shape=(n_leaves, n_classes)] are in the order of the leaves among the nodes.
    """

    feature: NDArray[Any]
    threshold: NDArray[np.float64]
    right: NDArray[Any]
    values: NDArray[np.float64]


def of_shares(trees: Iterable[Any], *, n_features: int) -> Forest:
    """Convert a random forest or extra trees, from the ``tree_`` of each of its estimators.

    Leaves are stored as float16, which is accurate to a thousandth of a share.
    """
    return _forest([_of_shares(tree) for tree in trees], n_features=n_features, dtype="f2")


def of_boosting(
    rounds: Sequence[Sequence[Any]], *, baseline: NDArray[np.float64], n_features: int
) -> Forest:
    """Convert gradient boosting, from the structured nodes of each round's trees.

    A round has a tree for each class. For two classes it has one, for the second class; the logit
    of the first is 0.
    """
    n_classes = max(2, baseline.size)
    grown = [
        _of_boosting(nodes, column=n_classes - len(each) + number, n_classes=n_classes)
        for each in rounds
        for number, nodes in enumerate(each)
    ]
    bias = np.zeros(n_classes, dtype=np.float32)
    bias[n_classes - baseline.size :] = baseline
    return _forest(grown, n_features=n_features, dtype="f4", bias=bias)


def _of_shares(tree: Any) -> Tree:
    left, right = tree.children_left, tree.children_right
    is_leaf = left < 0
    _check_order(left[~is_leaf], is_leaf)
    values = tree.value[is_leaf, 0]
    return Tree(
        feature=np.where(is_leaf, LEAF, tree.feature),
        threshold=np.where(is_leaf, 0.0, tree.threshold),
        right=right,
        values=values / values.sum(axis=1, keepdims=True),
    )


def _of_boosting(nodes: NDArray[Any], *, column: int, n_classes: int) -> Tree:
    is_leaf = nodes["is_leaf"].astype(bool)
    _check_order(nodes["left"][~is_leaf], is_leaf)
    values = np.zeros((int(is_leaf.sum()), n_classes))
    values[:, column] = nodes["value"][is_leaf]
    return Tree(
        feature=np.where(is_leaf, LEAF, nodes["feature_idx"]),
        threshold=np.where(is_leaf, 0.0, nodes["num_threshold"]),
        right=nodes["right"],
        values=values,
    )


def _check_order(left: NDArray[Any], is_leaf: NDArray[np.bool_]) -> None:
    """Check the order of nodes, which scikit-learn's trees have without guaranteeing it."""
    assert (left == np.flatnonzero(~is_leaf) + 1).all()


def _forest(
    trees: Sequence[Tree], *, n_features: int, dtype: str, bias: NDArray[np.float32] | None = None
) -> Forest:
    n_nodes = np.array([tree.feature.size for tree in trees])
    n_leaves = np.array([len(tree.values) for tree in trees])
    first_node = np.cumsum(n_nodes) - n_nodes
    first_leaf = np.cumsum(n_leaves) - n_leaves
    right = [
        np.where(
            tree.feature == LEAF, leaf + np.cumsum(tree.feature == LEAF) - 1, tree.right + node
        )
        for tree, node, leaf in zip(trees, first_node, first_leaf, strict=True)
    ]
    arrays = {
        "roots": first_node.astype(np.int32),
        "feature": np.concatenate([tree.feature for tree in trees]).astype(np.int16),
        "threshold": _not_above(np.concatenate([tree.threshold for tree in trees])),
        "right": np.concatenate(right).astype(np.int32),
        "values": np.concatenate([tree.values for tree in trees]).astype(dtype),
    }
    if bias is None:
        return Forest(arrays=arrays, combine="mean", n_features=n_features)
    return Forest(arrays={**arrays, "bias": bias}, combine="sum", n_features=n_features)


def _not_above(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round thresholds down to float32, so that float32 features take the same branches."""
    rounded = threshold.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, lower, rounded)
