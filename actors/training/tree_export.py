"""Conversion of scikit-learn's trees to the flat arrays of a `Forest`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.forest import LEAF, Forest


class Tree(Protocol):
    """The arrays of scikit-learn's ``tree_`` that are used, each with an entry per node."""

    children_left: NDArray[np.int64]
    children_right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    #: Class shares [shape=(n_nodes, 1, n_classes)].
    value: NDArray[np.float64]


def forest(trees: Iterable[Tree], *, n_features: int) -> Forest:
    """Convert a random forest, from the ``tree_`` of each of its estimators.

    Leaves are stored as float16, which is accurate to a thousandth of a share.
    """
    grown = list(trees)
    n_nodes = np.array([tree.feature.size for tree in grown])
    first_node = np.cumsum(n_nodes) - n_nodes
    is_leaf = np.concatenate([tree.children_left < 0 for tree in grown])
    for tree in grown:
        _check_order(tree)
    right = np.concatenate(
        [tree.children_right + first for tree, first in zip(grown, first_node, strict=True)]
    )
    feature = np.concatenate([tree.feature for tree in grown])
    threshold = np.concatenate([tree.threshold for tree in grown])
    values = np.concatenate([tree.value[:, 0] for tree in grown])[is_leaf]
    arrays = {
        "roots": first_node.astype(np.int32),
        "feature": np.where(is_leaf, LEAF, feature).astype(np.int16),
        "threshold": _not_above(np.where(is_leaf, 0.0, threshold)),
        "right": np.where(is_leaf, np.cumsum(is_leaf) - 1, right).astype(np.int32),
        "values": (values / values.sum(axis=1, keepdims=True)).astype(np.float16),
    }
    return Forest(arrays=arrays, n_features=n_features)


def _check_order(tree: Tree) -> None:
    """Check that left children follow their parents; scikit-learn does not guarantee it."""
    parents = np.flatnonzero(tree.children_left >= 0)
    assert (tree.children_left[parents] == parents + 1).all()


def _not_above(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round thresholds down to float32, so that float32 features take the same branches."""
    rounded = threshold.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, lower, rounded)
