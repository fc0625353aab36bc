"""Open-set rejection: whether a sound is of the class that a model assigns to it.

A model of a few classes assigns every sound to one of them, and is often sure of it. The shipped
model therefore has a gate: estimators that were trained on everyday noise of many other types
beside the model's classes. With the backbone it is not used: the base types include such noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Minimum probability of an event's type, from the confidence and from the gate. With it, less than
#: a quarter of everyday noise gets a wrong type in cross-validation (docs/model.md).
LEAST = 0.93

#: Exponent of the odds by each estimator of the gate. From 0.35 to 1 makes no difference.
OF_GATE = 0.5

#: Log-odds are clipped here.
_SUREST = 6.0


def is_known(confidence: float, by_gate: NDArray[np.floating], *, weights: Sequence[float]) -> bool:
    """Return whether a segment is likely enough to be of its most probable class.

    The odds of the confidence are multiplied with those by each estimator of the gate.

    Parameters
    ----------
    confidence
        The probability of the class, by the model.
    by_gate : numpy.ndarray [shape=(n_estimators,)]
        Its probability by each estimator of the gate.
    weights
        The weight of each estimator.
    """
    support = OF_GATE * float(np.dot(weights, _log_odds(by_gate)))
    own, least = _log_odds(np.array([confidence, LEAST])).tolist()
    return bool(own + support >= least)


def _log_odds(probability: NDArray[np.floating]) -> NDArray[np.float64]:
    cut = np.clip(probability, 1e-9, 1.0 - 1e-9)
    found: NDArray[np.float64] = np.clip(np.log(cut) - np.log1p(-cut), -_SUREST, _SUREST)
    return found
