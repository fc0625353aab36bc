"""Open-set rejection: whether a sound is of any class of a model.

A model of a few classes assigns every sound to one of them, and is often sure of it. The shipped
model therefore has a gate: a second model with two classes, `KNOWN` and background, that was
trained on sounds of its classes and on everyday noise of other types. It is used where there is no
backbone, whose base types know such noise.
"""

from __future__ import annotations

import numpy as np

#: The class of a gate for sounds of any class of its model. All others are background.
KNOWN = "known"

#: Minimum probability of an event's type, from the confidence and from the gate. With it, less than
#: a quarter of everyday noise gets a wrong type in cross-validation (docs/model.md).
LEAST = 0.97

#: Log-odds are clipped here.
_SUREST = 12.0


def is_known(confidence: float, known: float) -> bool:
    """Return whether a segment is likely enough to be of its most probable class.

    The odds of ``confidence``, the share of that class, and of ``known``, the gate's probability,
    are multiplied.
    """
    return _log_odds(confidence) + _log_odds(known) >= _log_odds(LEAST)


def _log_odds(probability: float) -> float:
    with np.errstate(divide="ignore"):
        found = np.log(probability) - np.log1p(-probability)
    return float(np.clip(found, -_SUREST, _SUREST))
