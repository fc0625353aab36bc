"""Simulate recordings that wait for workers."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from itertools import accumulate


def waits_s(
    arrivals_s: Sequence[float], services_s: Sequence[float], *, n_workers: int
) -> list[float]:
    """Return how long each recording waits until a worker begins with it.

    The recordings are in the order of their arrival. Whichever worker is free first takes the next
    one, as the workers do with the recordings of one caller.

    Raises
    ------
    ValueError
        If there are no workers, or if not every arrival has its service time.
    """
    if n_workers < 1:
        raise ValueError("there must be at least one worker")
    free_at = [0.0] * n_workers
    waits = []
    for arrives, takes in zip(arrivals_s, services_s, strict=True):
        begins = max(arrives, free_at[0])
        heapq.heapreplace(free_at, begins + takes)
        waits.append(begins - arrives)
    return waits


def poisson_arrivals_s(n: int, *, per_s: float, chance: random.Random) -> list[float]:
    """Return the times of ``n`` arrivals that do not depend on each other, ``per_s`` on average."""
    return list(accumulate(chance.expovariate(per_s) for _ in range(n)))
