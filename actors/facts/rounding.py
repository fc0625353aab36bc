"""The decimals of numbers in responses, the same everywhere.

Rows store unrounded values; a number is rounded once, where it becomes part of a response.
"""

from __future__ import annotations

import math

#: For levels in dB: ten times finer than any tolerance of the standards.
LEVEL_DECIMALS = 2
#: For confidences, scores, shares and figures such as an accuracy, all in [0, 1].
SHARE_DECIMALS = 4
#: For seconds.
SECOND_DECIMALS = 3


def level(level_db: float | None) -> float | None:
    """Round a level in dB; None for digital silence and for a missing level."""
    if level_db is None or not math.isfinite(level_db):
        return None
    return round(float(level_db), LEVEL_DECIMALS)


def share(value: float) -> float:
    """Round a confidence, a score, a share or an accuracy."""
    return round(float(value), SHARE_DECIMALS)


def seconds(value_s: float) -> float:
    """Round seconds."""
    return round(float(value_s), SECOND_DECIMALS)
