"""Frames and events in the holes of a recording, in which nothing is detected."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.chunks import STEP_S
from actors.science.types import Event

#: Start and end of a hole, in seconds of the recording.
Interval = tuple[float, float]

#: Tolerance in frames and in seconds, which are not exact.
_TINY = 1e-6


def frames_within(
    holes: Sequence[Interval], *, n_steps: int, lead_s: float, least_s: float = 0.0
) -> NDArray[np.bool_]:
    """Return which frames are wholly in a hole of at least ``least_s`` [shape=(n_steps,)].

    The grid of the frames begins ``lead_s`` before the recording.
    """
    is_within = np.zeros(n_steps, dtype=np.bool_)
    for start_s, end_s in holes:
        if end_s - start_s >= least_s - _TINY:
            first = math.ceil((start_s + lead_s) / STEP_S - _TINY)
            is_within[first : max(first, math.floor((end_s + lead_s) / STEP_S + _TINY))] = True
    return is_within


def outside(event: Event, holes: Sequence[Interval]) -> Event:
    """Return an event that ends at the edges of the holes that it reaches into.

    One wholly in a hole becomes empty. One that continues after a hole is left unchanged. Holes are
    in order and apart from each other.
    """
    start_s, end_s = event.start_s, event.end_s
    at_start = bisect_right(holes, start_s, key=_start_s) - 1
    at_end = bisect_left(holes, end_s, key=_start_s) - 1
    if at_start >= 0:
        start_s = max(start_s, round(holes[at_start][1], 3))
    if at_end >= 0 and end_s <= holes[at_end][1]:
        end_s = round(holes[at_end][0], 3)
    return replace(event, start_s=start_s, end_s=end_s)


def _start_s(hole: Interval) -> float:
    return hole[0]
