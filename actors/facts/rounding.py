"""How many decimals the numbers in answers have, whatever makes the answer.

Rows keep what was measured; a number is rounded once, where it becomes part of an answer.
"""

from __future__ import annotations

import math

#: Of a level in dB: ten times finer than any limit of the standards.
LEVEL_DECIMALS = 2
#: Of confidences, scores, shares, and figures such as an accuracy, which lie in [0, 1].
SHARE_DECIMALS = 4
#: Of seconds.
SECOND_DECIMALS = 3


def level(level_db: float | None) -> float | None:
    """Return a level in dB as answers have it; None for digital silence and where there is none."""
    if level_db is None or not math.isfinite(level_db):
        return None
    return round(float(level_db), LEVEL_DECIMALS)


def share(value: float) -> float:
    """Return a confidence, a score, a share or an accuracy as answers have it."""
    return round(float(value), SHARE_DECIMALS)


def seconds(value_s: float) -> float:
    """Return seconds as answers have them."""
    return round(float(value_s), SECOND_DECIMALS)
