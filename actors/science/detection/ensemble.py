"""The estimators of a model, each a few plain arrays evaluated by numpy, and their vote.

A *network* is a stack of dense layers: logistic regression, discriminant analysis, perceptrons, and
support vectors over random kernel features. A *forest* is a set of decision trees: random forests,
extra trees and gradient boosting. Arrays may come from an untrusted file: an estimator checks them
before use, and no array can make it loop forever.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from actors.science.errors import ModelError

#: Standardised features are clipped here, so that unseen values cannot dominate.
LARGEST_Z = 6.0

#: Lower limit of a forest's probabilities, to keep their logarithms finite.
_LEAST_PROBABILITY = 1e-6

#: Depth limit, well above that of any tree grown here: a crafted tree could only waste time.
_DEEPEST = 64

#: A weight or temperature above this, or below its inverse, means that the file was crafted.
_LARGEST_FACTOR = 1e3

#: Logits are clipped here, so that probabilities are finite for any weights in a file.
_LARGEST_LOGIT = 1e4

#: Rows times trees times classes evaluated in one batch; bounds the memory.
_AT_ONCE = 1 << 21

#: Possible inputs of a network: see `features` and `textures` beside this module.
_VIEWS = ("features", "textures")

#: Marks a leaf in the array ``feature``.
LEAF = -1

Array = NDArray[np.float32]
AnyArray = NDArray[Any]
Logits = NDArray[np.float64]
#: Weights [shape=(n_in, n_out)] and biases [shape=(n_out,)].
Layer = tuple[Array, Array]


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimator(ABC):
    """One voter of an ensemble.

    Attributes
    ----------
    arrays
        All learned parameters; the names depend on the kind.
    weight
        Weight of its vote, relative to the others.
    temperature
        Divides its logits; values above 1 make its probabilities less extreme.
    """

    #: Name of the kind in a model file.
    kind: ClassVar[str]

    arrays: Mapping[str, AnyArray]
    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for number in (self.weight, self.temperature):
            if type(number) is not float or not 1 / _LARGEST_FACTOR <= number <= _LARGEST_FACTOR:
                raise ModelError("a member's weight and temperature are moderate numbers above 0")
        for values in self.arrays.values():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ModelError("the model holds numbers that are not finite")
        try:
            self.check()
        except KeyError as error:
            raise ModelError("the model lacks an array") from error

    @property
    def needs(self) -> str:
        """The input it is evaluated on: ``features`` or ``textures`` of chunks, or ``samples``."""
        return "features"

    @property
    @abstractmethod
    def n_classes(self) -> int:
        """Number of probabilities in its output."""

    @property
    def width(self) -> int:
        """Number of input features or textures; 0 if the input is samples."""
        return 0

    @abstractmethod
    def check(self) -> None:
        """Reject arrays and settings that do not match each other.

        Raises
        ------
        ModelError
        KeyError
            If an array is missing.
        """

    @abstractmethod
    def logits(self, inputs: Array) -> Logits:
        """Compute the logits [shape=(n_windows, n_classes)], before the temperature."""

    def settings(self) -> dict[str, Any]:
        """Return the header fields needed to restore it, besides weight and temperature."""
        return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(Estimator):
    """Dense layers over standardised features or textures; the last one is linear.

    ``arrays`` holds ``mean`` and ``scale`` [shape=(n_features,)], and for each layer ``n``
    ``n.weights`` and ``n.biases``. With the activation ``cos``, a hidden layer of random weights is
    a map of random Fourier features [1]_.

    .. [1] Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007.
    """

    kind = "network"
    activation: str = "relu"
    view: str = "features"

    @classmethod
    def of(
        cls, layers: list[Layer], *, mean: AnyArray, scale: AnyArray, activation: str = "relu"
    ) -> Network:
        """Make a network from its layers."""
        arrays = {"mean": mean, "scale": scale}
        for depth, (weights, biases) in enumerate(layers):
            arrays |= {f"{depth}.weights": weights, f"{depth}.biases": biases}
        plain = {name: values.astype(np.float32) for name, values in arrays.items()}
        return cls(arrays=plain, activation=activation)

    @property
    def layers(self) -> list[Layer]:
        """The layers, first to last."""
        depths = range(sum(name.endswith(".weights") for name in self.arrays))
        return [(self.arrays[f"{n}.weights"], self.arrays[f"{n}.biases"]) for n in depths]

    @property
    def n_classes(self) -> int:
        return self.layers[-1][1].size

    @property
    def needs(self) -> str:
        return self.view

    @property
    def width(self) -> int:
        return self.arrays["mean"].size

    def settings(self) -> dict[str, Any]:
        # The default view is omitted, so that releases without other views can read the file.
        seen = {} if self.view == "features" else {"view": self.view}
        return {"activation": self.activation, **seen}

    def check(self) -> None:
        if not isinstance(self.view, str) or self.view not in _VIEWS:
            raise ModelError(f"a network looks at {' or '.join(_VIEWS)}")
        if not isinstance(self.activation, str) or self.activation not in _ACTIVATIONS:
            raise ModelError(f"a network's activation is one of {', '.join(_ACTIVATIONS)}")
        if any(values.dtype != np.float32 for values in self.arrays.values()):
            raise ModelError("a network's arrays are float32")
        mean, scale = self.arrays["mean"], self.arrays["scale"]
        if mean.ndim != 1 or mean.shape != scale.shape or (scale <= 0).any():
            raise ModelError("the model's scaling is wrong")
        n_in, layers = mean.size, self.layers
        for weights, biases in layers:
            if weights.ndim != 2 or weights.shape[0] != n_in or biases.shape != weights.shape[1:]:
                raise ModelError("the layers of the model do not fit each other")
            n_in = biases.size
        if not layers or len(self.arrays) != 2 + 2 * len(layers):
            raise ModelError("a network has a scaling and layers, and nothing else")

    def logits(self, inputs: Array) -> Logits:
        values = standardised(inputs, mean=self.arrays["mean"], scale=self.arrays["scale"])
        layers = self.layers
        weights, biases = layers[-1]
        # Crafted weights may overflow; the vote clips the result.
        with np.errstate(over="ignore", invalid="ignore"):
            for inner, shift in layers[:-1]:
                values = _ACTIVATIONS[self.activation](values @ inner + shift)
            return (values @ weights + biases).astype(np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Forest(Estimator):
    """Decision trees, all of them in the same flat arrays.

    The nodes of a tree are stored consecutively, each before its children and the left child right
    after its parent, so that only the right child needs an index. ``arrays`` holds

    - ``roots`` int32 [shape=(n_trees,)]: the first node of each tree;
    - ``feature`` int16 [shape=(n_nodes,)]: the feature of a split, `LEAF` for a leaf;
    - ``threshold`` float32 [shape=(n_nodes,)]: values up to it go left;
    - ``right`` int32 [shape=(n_nodes,)]: a node's right child, or a leaf's row of ``values``;
    - ``values`` float16 or float32 [shape=(n_leaves, n_classes)]: the outputs of the leaves.

    With ``combine="mean"`` the leaves hold class probabilities, and the forest's probability is
    their mean over the trees. With ``combine="sum"`` they are summed to logits, and there is one
    more array, ``bias`` float32 [shape=(n_classes,)].
    """

    kind = "forest"
    combine: str = "mean"
    n_features: int = 0

    @property
    def n_classes(self) -> int:
        return int(self.arrays["values"].shape[1])

    @property
    def width(self) -> int:
        return self.n_features

    def settings(self) -> dict[str, Any]:
        return {"combine": self.combine, "n_features": self.n_features}

    def check(self) -> None:
        names = {"roots", "feature", "threshold", "right", "values"}
        names |= {"bias"} if self.combine == "sum" else set()
        if self.combine not in ("mean", "sum") or set(self.arrays) != names:
            raise ModelError(f"a forest of this kind holds {', '.join(sorted(names))}")
        if any(self.arrays[name].dtype.str[1:] not in _FOREST_DTYPES[name] for name in names):
            raise ModelError("a forest's arrays are of the wrong type")
        values = self.arrays["values"]
        if values.ndim != 2 or (self.combine == "mean" and (values < 0).any()):
            raise ModelError("the leaves of a forest are wrong")
        if self.combine == "sum" and self.arrays["bias"].shape != values.shape[1:]:
            raise ModelError("the leaves of a forest do not fit its bias")
        object.__setattr__(self, "_walk", _Walk(self.arrays, n_features=self.n_features))

    def logits(self, inputs: Array) -> Logits:
        walk: _Walk = self.__dict__["_walk"]
        n_rows = max(1, _AT_ONCE // (self.arrays["roots"].size * self.n_classes))
        parts = [walk.sums(inputs[at : at + n_rows]) for at in range(0, len(inputs), n_rows)]
        if not parts:
            return np.zeros((0, self.n_classes))
        sums = np.concatenate(parts).astype(np.float64)
        if self.combine == "sum":
            return sums + self.arrays["bias"]
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


def vote(members: Sequence[Estimator], logits: Sequence[Logits]) -> NDArray[np.float64]:
    """Return the members' weighted mean probabilities [shape=(n_windows, n_classes)].

    Rows sum to 1 for any logits.
    """
    total = sum(member.weight for member in members)
    shares = (
        member.weight / total * _softmax(each / member.temperature)
        for member, each in zip(members, logits, strict=True)
    )
    return np.sum(list(shares), axis=0)  # type: ignore[no-any-return]


def _softmax(logits: Logits) -> NDArray[np.float64]:
    bounded = np.clip(np.nan_to_num(logits), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    shifted = np.exp(bounded - bounded.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def standardised(inputs: AnyArray, *, mean: AnyArray, scale: AnyArray) -> AnyArray:
    """Subtract the mean, divide by the scale, and clip at `LARGEST_Z`."""
    return np.clip((inputs - mean) / scale, -LARGEST_Z, LARGEST_Z)


def _check_trees(arrays: Mapping[str, AnyArray], *, n_features: int) -> None:
    """Reject nodes that do not form trees: each has one parent, before it and in the same tree."""
    roots, feature, right = arrays["roots"], arrays["feature"], arrays["right"]
    n_nodes = feature.size
    if type(n_features) is not int or not 0 < n_features <= np.iinfo(np.int16).max:
        raise ModelError("a forest looks at a number of features")
    if any(arrays[name].shape != (n_nodes,) for name in ("feature", "threshold", "right")):
        raise ModelError("the nodes of a forest do not fit each other")
    if roots.ndim != 1 or roots[0] != 0 or (np.diff(roots) <= 0).any() or roots[-1] >= n_nodes:
        raise ModelError("the roots of a forest are wrong")
    if feature.min() < LEAF or feature.max() >= n_features:
        raise ModelError("a tree of the model looks at a feature that there is not")
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


_ACTIVATIONS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "relu": lambda values: np.maximum(values, 0.0),
    "cos": np.cos,
}

_FOREST_DTYPES = {
    "roots": ("i4",),
    "feature": ("i2",),
    "threshold": ("f4",),
    "right": ("i4",),
    "values": ("f2", "f4"),
    "bias": ("f4",),
}
