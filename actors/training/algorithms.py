"""The algorithms for training models of window features, by name.

Each makes estimators from features, class names and groups. The same input, seed and library
versions give the same estimators, bit for bit on one machine.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from actors.science.detection import ensemble
from actors.science.detection.ensemble import Estimator, Layer, Network
from actors.science.types import AnyArray
from actors.training import calibration, tree_export
from actors.training.calibration import HeldOut

#: Added to each feature's spread before dividing by it: a feature that hardly varies in training
#: must not explode on a recording where it does.
_LEAST_SPREAD = 1e-2

#: Trees of a forest, and the fewest windows in a leaf. More trees are more stable and larger;
#: larger leaves make smaller files.
N_TREES, LEAF_WINDOWS = 100, 3

#: Networks whose probabilities are averaged. More are more stable and larger.
N_NETWORKS = 5
#: Width of the hidden layer, weight decay, and number of epochs.
HIDDEN, DECAY, EPOCHS = 128, 0.3, 15
#: Batch size, and the minimum number of weight updates: with few windows there are more epochs than
#: `EPOCHS`.
_BATCH, _LEAST_MOVES = 256, 300

#: Inverse penalty on the weights of logistic regression, and of the support vector machine.
PENALTY, SVM_COST = 0.003, 1.0

#: Random Fourier features of the support vector machine, and the width of its Gaussian kernel
#: relative to the median distance between windows.
N_FOURIER, KERNEL_WIDTH = 1_000, 1.0

Features = NDArray[np.float32]
Names = NDArray[np.str_]


class Fit(Protocol):
    """Trains estimators; the columns of their logits are the sorted names in ``labels``.

    ``features`` has the shape (n_windows, n_features). Windows of one group are never on both sides
    of a split inside the algorithm.
    """

    def __call__(
        self, features: Features, labels: Names, *, groups: Names, seed: int
    ) -> list[Estimator]: ...


@dataclass(frozen=True)
class Algorithm:
    """A training algorithm, with a line of help for choosing it."""

    help: str
    fit: Fit


class _Linear(Protocol):
    """A fitted linear model of scikit-learn: a row of ``coef_`` for each column of logits."""

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]


class _Scaling(TypedDict):
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def fit(
    algorithm: str, features: Features, labels: Names, *, groups: Names, seed: int
) -> list[Estimator]:
    """Train by the named algorithm, on one thread.

    With several threads the order of summation, and so the result, would vary.
    """
    with threadpool_limits(1), warnings.catch_warnings():
        # Early stopping before convergence is intended: it prevents overfitting.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ALGORITHMS[algorithm].fit(features, labels, groups=groups, seed=seed)


def _random_forest(
    features: Features, labels: Names, *, groups: Names, seed: int
) -> list[Estimator]:
    grown = RandomForestClassifier(
        n_estimators=N_TREES,
        max_features="sqrt",
        min_samples_leaf=LEAF_WINDOWS,
        n_jobs=1,
        random_state=seed,
    ).fit(features, labels)
    trees = (each.tree_ for each in grown.estimators_)
    return [tree_export.forest(trees, n_features=features.shape[1])]


def _lda(features: Features, labels: Names, *, groups: Names, seed: int) -> list[Estimator]:
    scaling, inputs = _scaled(features)
    found = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(inputs, labels)
    return [Network.of([_linear(found)], **scaling)]


def _logistic_regression(
    features: Features, labels: Names, *, groups: Names, seed: int
) -> list[Estimator]:
    scaling, inputs = _scaled(features)
    found = LogisticRegression(C=PENALTY, max_iter=100).fit(inputs, labels)
    return [Network.of([_linear(found)], **scaling)]


def _svm(features: Features, labels: Names, *, groups: Names, seed: int) -> list[Estimator]:
    """Linear support vectors over random Fourier features of a Gaussian kernel."""
    rng = np.random.default_rng(seed)
    scaling, inputs = _scaled(features)
    some = inputs[rng.permutation(len(inputs))[:400]].astype(np.float64)
    distance = np.median(np.linalg.norm(some[::2, None] - some[None, 1::2], axis=2))
    directions = rng.normal(size=(inputs.shape[1], N_FOURIER)) / (KERNEL_WIDTH * distance)
    phases = rng.uniform(0, 2 * np.pi, N_FOURIER)
    random = (directions.astype(np.float32), phases.astype(np.float32))
    unit = np.float32(np.sqrt(2 / N_FOURIER))
    waves = unit * np.cos(inputs @ random[0] + random[1])
    found = LinearSVC(C=SVM_COST, dual=False, tol=1e-3).fit(waves, labels)
    weights, biases = _linear(found)
    # Margins are about 1; as logits they would be too uncertain.
    layers = [random, (weights * unit, biases)]
    return calibration.warmer([Network.of(layers, **scaling, activation="cos")], 0.3)


def _mlp(features: Features, labels: Names, *, groups: Names, seed: int) -> list[Estimator]:
    scaling, inputs = _scaled(features)
    networks: list[Estimator] = []
    epochs = max(EPOCHS, math.ceil(_LEAST_MOVES / math.ceil(len(inputs) / _BATCH)))
    for number in range(N_NETWORKS):
        network = MLPClassifier(
            hidden_layer_sizes=(HIDDEN,),
            alpha=DECAY,
            batch_size=min(_BATCH, len(inputs)),
            max_iter=epochs,
            n_iter_no_change=epochs,
            random_state=seed + number,
        ).fit(inputs, labels)
        layers = list(zip(network.coefs_, network.intercepts_, strict=True))
        layers[-1] = _two_columns(*layers[-1])
        networks.append(Network.of(layers, **scaling))
    return networks


def _vote(features: Features, labels: Names, *, groups: Names, seed: int) -> list[Estimator]:
    """Train several algorithms with equal weights, each calibrated on held-out windows."""
    training, testing = _split(labels, groups=groups, seed=seed)
    truth = np.unique(labels, return_inverse=True)[1][testing]
    voters: list[Estimator] = []
    for name in VOTERS:
        each = ALGORITHMS[name].fit
        tried = each(features[training], labels[training], groups=groups[training], seed=seed)
        logits = [member.logits(features[testing]) for member in tried]
        factor = calibration.factor([HeldOut(tried, logits, truth)])
        final = calibration.warmer(each(features, labels, groups=groups, seed=seed), factor)
        voters += [replace(member, weight=1.0 / len(final)) for member in final]
    return voters


def _split(labels: Names, *, groups: Names, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows for training, with every class among them, and rows of other groups."""
    n_classes, n_groups = np.unique(labels).size, np.unique(groups).size
    if n_groups > 1:
        folds = StratifiedGroupKFold(min(3, n_groups), shuffle=True, random_state=seed)
        for training, testing in folds.split(labels, labels, groups):
            if testing.size and np.unique(labels[training]).size == n_classes:
                return training, testing
    # Too few groups to hold any out. Probabilities of the training examples are overconfident; the
    # temperature of the whole vote corrects that.
    everything = np.arange(len(labels))
    return everything, everything


def _scaled(features: Features) -> tuple[_Scaling, Features]:
    """Return the scaling of a network, and the scaled features."""
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64) + _LEAST_SPREAD
    inputs = ensemble.standardised(features, mean=mean, scale=scale).astype(np.float32)
    return {"mean": mean, "scale": scale}, inputs


def _linear(found: _Linear) -> Layer:
    return _two_columns(found.coef_.T, found.intercept_)


def _two_columns(weights: AnyArray, biases: AnyArray) -> Layer:
    """Give a last layer two columns if scikit-learn has only that of the second class."""
    if biases.size == 1:
        return np.pad(weights, ((0, 0), (1, 0))), np.pad(biases, (1, 0))
    return weights, biases


#: The algorithms in `vote`.
VOTERS = ("lda", "mlp")

ALGORITHMS: Mapping[str, Algorithm] = {
    "random_forest": Algorithm("decision trees on random parts of the data", _random_forest),
    "lda": Algorithm("linear discriminant analysis with shrinkage; the quickest", _lda),
    "logistic_regression": Algorithm("a linear model; quick and small", _logistic_regression),
    "svm": Algorithm("support vectors over random features of a Gaussian kernel", _svm),
    "mlp": Algorithm("small neural networks whose answers are averaged", _mlp),
    "vote": Algorithm("lda and mlp, each calibrated, and averaged", _vote),
}
