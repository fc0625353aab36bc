"""The estimators of a model, each a few plain arrays evaluated by numpy, and their vote.

A *network* is a stack of dense layers: logistic regression, discriminant analysis, perceptrons, and
support vectors over random kernel features. The other kinds are in `forest` and `cnn`. Arrays may
come from an untrusted file: an estimator checks them before use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from actors.science.errors import ModelError
from actors.science.types import AnyArray

#: Standardised features are clipped here, so that unseen values cannot dominate.
LARGEST_Z = 6.0

#: A weight or temperature above this, or below its inverse, means that the file was crafted.
_LARGEST_FACTOR = 1e3

#: Logits are clipped here, so that probabilities are finite for any weights in a file.
_LARGEST_LOGIT = 1e4

#: Possible inputs of a network: see `features` and `textures` beside this module.
_VIEWS = ("features", "textures")

Array = NDArray[np.float32]
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
                raise ModelError(
                    "an estimator's weight and temperature must be floating-point numbers "
                    f"from {1 / _LARGEST_FACTOR:g} to {_LARGEST_FACTOR:g}"
                )
        for values in self.arrays.values():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ModelError("the model holds numbers that are not finite")
        try:
            self.check()
        except KeyError as error:
            raise ModelError("the model lacks an array") from error

    @property
    def input_kind(self) -> str:
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

    def settings(self) -> dict[str, object]:
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
    def input_kind(self) -> str:
        return self.view

    @property
    def width(self) -> int:
        return self.arrays["mean"].size

    def settings(self) -> dict[str, object]:
        # The default is omitted.
        seen = {} if self.view == "features" else {"view": self.view}
        return {"activation": self.activation, **seen}

    def check(self) -> None:
        if not isinstance(self.view, str) or self.view not in _VIEWS:
            raise ModelError(f"the view of a network must be {' or '.join(_VIEWS)}")
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


_ACTIVATIONS: Mapping[str, Callable[[AnyArray], AnyArray]] = {
    "relu": lambda values: np.maximum(values, 0.0),
    "cos": np.cos,
}
