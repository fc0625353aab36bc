"""Unions of time intervals: overlaps are counted once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


def covered_s(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that intervals ``(start_s, end_s)`` cover; overlaps are counted once."""
    start_s, end_s = np.array([*intervals], dtype=np.float64).reshape(-1, 2).T
    return Intervals.union(start_s, end_s, duration_s=math.inf).total_s


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals ``[start_s, end_s)`` that neither overlap nor touch, in order, in seconds."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]

    @classmethod
    def union(
        cls, start_s: NDArray[np.float64], end_s: NDArray[np.float64], *, duration_s: float
    ) -> Self:
        """Return the union of some intervals, clipped to ``[0, duration_s)``."""
        start_s, end_s = np.clip(start_s, 0.0, duration_s), np.clip(end_s, 0.0, duration_s)
        is_some = end_s > start_s
        start_s, end_s = start_s[is_some], end_s[is_some]
        order = np.argsort(start_s, kind="stable")
        start_s = start_s[order]
        covered_until = np.maximum.accumulate(end_s[order])
        begins = np.append(True, start_s[1:] > covered_until[:-1])[: start_s.size]
        lasts = np.append(begins[1:], True)[: start_s.size]
        return cls(start_s[begins], covered_until[lasts])

    @classmethod
    def all_of(cls, parts: Iterable[Intervals], *, duration_s: float) -> Self:
        """Return the union of some unions."""
        every = list(parts)
        nothing = np.zeros(0)
        return cls.union(
            np.concatenate([nothing, *(part.start_s for part in every)]),
            np.concatenate([nothing, *(part.end_s for part in every)]),
            duration_s=duration_s,
        )

    @property
    def total_s(self) -> float:
        """Total duration in seconds."""
        return float((self.end_s - self.start_s).sum())

    def between_s(self, bounds_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the covered seconds between each bound and the next [shape=(n_bounds-1,)]."""
        if not self.start_s.size:
            return np.zeros(max(bounds_s.size - 1, 0))
        times_s = np.column_stack([self.start_s, self.end_s]).ravel()
        until_s = np.append(0.0, np.cumsum(self.end_s - self.start_s))
        found: NDArray[np.float64] = np.diff(
            np.interp(bounds_s, times_s, np.repeat(until_s, 2)[1:-1])
        )
        return found
