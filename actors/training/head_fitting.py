"""Fitting of a head's rows for types that are trained beside the base types.

A row of weights is fitted for each type, given the logits of the base types, which do not change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from actors.science.detection.tagging import tagger
from actors.science.detection.tagging.backbone import Array
from actors.science.detection.tagging.mobilenet import N_TAGS
from actors.science.detection.tagging.tagger import Floats, Head, Tagger
from actors.science.types import BACKGROUND
from actors.training.negatives import Negatives

#: Penalties on the weights and biases of the new rows. Lower values overfit single examples; higher
#: ones reduce the recall of the new types (docs/model.md).
WEIGHT_PENALTY, BIAS_PENALTY = 0.003, 0.003

#: Weight of a new type relative to a base type, for any number of examples. Higher values increase
#: the recall of new types, and misclassify more sounds of base types as new ones.
NEW_WEIGHT = 4.0


@dataclass(frozen=True, eq=False)
class ClipEmbeddings:
    """Embeddings of clips and their copies.

    Attributes
    ----------
    embeddings : numpy.ndarray [shape=(n, n_embedding)]
    clips : numpy.ndarray [shape=(n,)]
        The row of each embedding's clip.
    is_copy : numpy.ndarray [shape=(n,)]
        Whether it is of a copy, not of the original clip.
    labels : numpy.ndarray [shape=(n,)]
        The clip's label.
    """

    embeddings: Array
    clips: NDArray[np.intp]
    is_copy: NDArray[np.bool_]
    labels: NDArray[np.str_]

    def of_clip(self, row: int) -> Array:
        """Return the embeddings of a clip's original pieces."""
        own: Array = self.embeddings[(self.clips == row) & ~self.is_copy]
        return own

    def where(self, kept: NDArray[np.bool_]) -> ClipEmbeddings:
        """Select the rows of a mask."""
        return ClipEmbeddings(
            self.embeddings[kept], self.clips[kept], self.is_copy[kept], self.labels[kept]
        )


def fit(beside: Tagger, given: ClipEmbeddings, against: Negatives, labels: set[str]) -> Head:
    """Fit the rows of some types over the logits of the base types, with penalties.

    For a label that is a base type, an addition to the existing row is fitted.
    """
    base = beside.head
    new = sorted(labels - {*base.types, BACKGROUND})
    types = (*base.types, *new)
    columns = [types.index(name) for name in sorted(labels - {BACKGROUND})]
    embeddings = np.concatenate([given.embeddings, against.embeddings.astype(np.float32)])
    logits = base.logits(embeddings, beside.backbone.tags(embeddings))
    right = np.zeros((len(embeddings), len(types)), dtype=bool)
    for row, label in enumerate(given.labels.tolist()):
        right[row, [column for column, name in enumerate(types) if name == label]] = True
    right[len(given.labels) :] = against.right_among(types)
    inputs = (embeddings - base.arrays["mean"]) / base.arrays["spread"]
    start = float(base.arrays["bias"].mean())
    weights, bias = _descend(
        inputs,
        np.pad(logits, ((0, 0), (0, len(new))), constant_values=start),
        right,
        np.append(NEW_WEIGHT * _balanced(given.labels), _balanced(against.labels)),
        columns,
    )
    arrays = dict(base.arrays)
    # AudioSet lacks these names, so their tag is a constant, which is subtracted.
    no_tags = np.zeros(N_TAGS, dtype=np.float32)
    arrays["prior"] = np.append(arrays["prior"], tagger.of_types(no_tags, tuple(new)))
    arrays["scale"] = np.append(arrays["scale"], np.ones(len(new)))
    arrays["bias"] = np.append(arrays["bias"], np.full(len(new), start))
    arrays["weights"] = np.pad(arrays["weights"], ((0, len(new)), (0, 0)))
    arrays["bias"][columns] += bias
    arrays["weights"][columns] += weights
    return Head(types, base.header, {k: v.astype(np.float32) for k, v in arrays.items()})


def _descend(
    inputs: Floats,
    logits: Floats,
    right: NDArray[np.bool_],
    weights: Floats,
    columns: list[int],
) -> tuple[Floats, Floats]:
    """Minimise the penalised cross-entropy by some columns; return weights and biases."""
    seen, fixed = torch.from_numpy(inputs).double(), torch.from_numpy(logits).double()
    truth, counts = torch.from_numpy(right), torch.zeros(right.shape, dtype=torch.float64)
    # The other columns are fixed, so their independent losses are constant.
    counts[:, columns] = 1.0
    of_rows, at = torch.from_numpy(weights / weights.sum()), torch.tensor(columns)
    weight = torch.zeros((len(columns), inputs.shape[1]), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(columns), dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([weight, bias], max_iter=150, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        descent.zero_grad()
        scores = fixed.index_add(1, at, seen @ weight.T + bias)
        penalty = WEIGHT_PENALTY * weight.square().sum() + BIAS_PENALTY * bias.square().mean()
        found = surprise(scores, truth, counts, truth, of_rows) + penalty
        found.backward()  # type: ignore[no-untyped-call]
        return found

    descent.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().numpy(), bias.detach().numpy()


def _balanced(kinds: NDArray[np.generic]) -> Floats:
    """Return weights of rows that sum to 1 for each kind."""
    _, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    found: Floats = 1.0 / counts[kind]
    return found


def surprise(
    logits: torch.Tensor,
    truth: torch.Tensor,
    counts: torch.Tensor,
    possible: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Compute the loss of a head's logits [shape=(n, n_types)], summed over rows.

    The mean of two terms: the binary cross-entropy of each type gives independent probabilities,
    the cross-entropy of one type among all separates the types.

    Parameters
    ----------
    logits, truth, counts, possible : torch.Tensor [shape=(n, n_types)]
        ``truth`` is where a type sounds, ``counts`` the weight of each independent term, and
        ``possible`` where a type is accepted among all.
    weights : torch.Tensor [shape=(n,)]
        Weight of each row.
    """
    alone = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, truth.double(), reduction="none"
    )
    is_sound = truth.any(dim=1)
    right = torch.log_softmax(logits, dim=1).masked_fill(~possible, -torch.inf)[is_sound]
    among = -torch.logsumexp(right, dim=1)
    return ((weights * (alone * counts).sum(dim=1)).sum() + (weights[is_sound] * among).sum()) / 2
