"""Random forests as estimators: their trees in flat arrays, traversed all at once.

Arrays may come from an untrusted file: they are checked before use, and no array can make a
traversal loop forever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.ensemble import Array, Estimator, Logits
from actors.science.errors import ModelError
from actors.science.types import AnyArray

#: Lower limit of a forest's probabilities, to keep their logarithms finite.
_LEAST_PROBABILITY = 1e-6

#: Depth limit, well above that of any tree grown here: a crafted tree could only waste time.
_DEEPEST = 64

#: Rows times trees times classes evaluated in one batch; bounds the memory.
_AT_ONCE = 1 << 21

#: Marks a leaf in the array ``feature``.
LEAF = -1

#: The arrays of a forest, and their types.
_DTYPES = {"roots": "i4", "feature": "i2", "threshold": "f4", "right": "i4", "values": "f2"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Forest(Estimator):
    """Decision trees, all of them in the same flat arrays.

    The nodes of a tree are stored consecutively, each before its children and the left child right
    after its parent, so that only the right child needs an index. ``arrays`` holds

    - ``roots`` int32 [shape=(n_trees,)]: the first node of each tree;
    - ``feature`` int16 [shape=(n_nodes,)]: the feature of a split, `LEAF` for a leaf;
    - ``threshold`` float32 [shape=(n_nodes,)]: values up to it go left;
    - ``right`` int32 [shape=(n_nodes,)]: a node's right child, or a leaf's row of ``values``;
    - ``values`` float16 [shape=(n_leaves, n_classes)]: class probabilities of the leaves.

    The probability of the forest is their mean over the trees.
    """

    kind = "forest"
    n_features: int = 0

    @property
    def n_classes(self) -> int:
        return int(self.arrays["values"].shape[1])

    @property
    def width(self) -> int:
        return self.n_features

    def settings(self) -> dict[str, object]:
        return {"n_features": self.n_features}

    def check(self) -> None:
        if {name: values.dtype.str[1:] for name, values in self.arrays.items()} != _DTYPES:
            raise ModelError(f"a forest holds {', '.join(_DTYPES)}, each of its type")
        values = self.arrays["values"]
        if values.ndim != 2 or (values < 0).any():
            raise ModelError("the leaves of a forest are wrong")
        object.__setattr__(self, "_walk", _Walk(self.arrays, n_features=self.n_features))

    def logits(self, inputs: Array) -> Logits:
        walk: _Walk = self.__dict__["_walk"]
        n_rows = max(1, _AT_ONCE // (self.arrays["roots"].size * self.n_classes))
        parts = [walk.sums(inputs[at : at + n_rows]) for at in range(0, len(inputs), n_rows)]
        if not parts:
            return np.zeros((0, self.n_classes))
        sums = np.concatenate(parts).astype(np.float64)
        return np.log(np.maximum(sums / self.arrays["roots"].size, _LEAST_PROBABILITY))


class _Walk:
    """Checked trees, laid out for traversing all of them at once.

    A leaf is its own child, so that no step has to check which traversals have ended.
    """

    def __init__(self, arrays: Mapping[str, AnyArray], *, n_features: int) -> None:
        roots, feature, right = arrays["roots"], arrays["feature"], arrays["right"]
        _check_trees(arrays, n_features=n_features)
        nodes = np.arange(feature.size, dtype=np.int64)
        is_leaf = feature == LEAF
        pairs = np.where(is_leaf, nodes, [nodes + 1, right])
        self._children = np.ascontiguousarray(pairs.T).ravel()
        self._feature = np.where(is_leaf, 0, feature).astype(np.int64)
        self._threshold = arrays["threshold"]
        self._row = np.where(is_leaf, right, 0)
        self._values = arrays["values"].astype(np.float32)
        self._roots = roots.astype(np.int64)
        self._depth = self._measure(is_leaf)

    def sums(self, inputs: Array) -> Array:
        """Sum the leaf values that rows end in [shape=(n_rows, n_classes)]."""
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        flat = inputs.ravel()
        first = (np.arange(len(inputs)) * inputs.shape[1])[:, None]
        node = np.broadcast_to(self._roots, (len(inputs), self._roots.size))
        for _ in range(self._depth):
            goes_right = flat.take(first + self._feature.take(node)) > self._threshold.take(node)
            node = self._children.take(2 * node + goes_right)
        total: Array = self._values.take(self._row.take(node), axis=0).sum(axis=1)
        return total

    def _measure(self, is_leaf: NDArray[np.bool_]) -> int:
        """Return the number of steps after which every traversal has ended."""
        level = self._roots
        for depth in range(_DEEPEST + 1):
            level = level[~is_leaf[level]]
            if not level.size:
                return depth
            level = self._children.reshape(-1, 2)[level].ravel()
        raise ModelError(f"a tree of the model is deeper than {_DEEPEST}")


def _check_trees(arrays: Mapping[str, AnyArray], *, n_features: int) -> None:
    """Reject nodes that do not form trees: each has one parent, before it and in the same tree."""
    roots, feature, right = arrays["roots"], arrays["feature"], arrays["right"]
    n_nodes = feature.size
    most = np.iinfo(np.int16).max
    if type(n_features) is not int or not 0 < n_features <= most:
        raise ModelError(f"the number of features of a forest must be from 1 to {most}")
    if any(arrays[name].shape != (n_nodes,) for name in ("feature", "threshold", "right")):
        raise ModelError("the nodes of a forest do not fit each other")
    if roots.ndim != 1 or roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= n_nodes:
        raise ModelError("the roots of a forest are wrong")
    if feature.min() < LEAF or feature.max() >= n_features:
        raise ModelError("a tree of the model uses a feature that does not exist")
    is_leaf = feature == LEAF
    rows = right[is_leaf]
    if not rows.size or rows.min() < 0 or rows.max() >= len(arrays["values"]):
        raise ModelError("a tree of the model ends in no leaf")
    split = np.flatnonzero(~is_leaf)
    ends = np.append(roots[1:], n_nodes)[np.searchsorted(roots, split, side="right") - 1]
    if (right[split] <= split + 1).any() or (right[split] >= ends).any():
        raise ModelError("a tree of the model does not run forward")
    parents = np.bincount(np.concatenate([split + 1, right[split], roots]), minlength=n_nodes)
    if (parents != 1).any():
        raise ModelError("a node of the model belongs to no tree, or to two")
