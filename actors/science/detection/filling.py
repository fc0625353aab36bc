"""Holes in a recording, filled with the sound around them.

Zeros in a steady sound would be an interruption, and the sound after them an onset. So detection
reads the sound before each hole, mirrored at its start, fading into the sound after it, mirrored at
its end. A sample of the fill depends only on its position, not on the division into reads.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.holes import Interval
from actors.science.detection.segment_views import Read

Samples = NDArray[np.float32]

#: The most sound on either side that fills a hole; a longer hole repeats it. With less, the fill is
#: a rhythm; with more, each read near a hole takes longer.
REACH_S = 4.0

#: Holes are filled with so much on either side, since resampling and lossy codecs blur their edges.
GUARD_S = 0.01

#: Reads of sound around holes that are kept: several short reads concern the same hole.
_KEPT_READS = 4


def filled(read: Read, holes: Sequence[Interval], *, n_samples: int, rate_hz: int) -> Read:
    """Return a reader of a recording whose holes are filled.

    Each read takes at most two further ones, of `REACH_S` at most.

    Parameters
    ----------
    read
        Reads the recording, with anything in its holes.
    holes
        In seconds, in any order. They may overlap.
    n_samples, rate_hz
        Length and sample rate of the recording.
    """
    bounds = _bounds(holes, n_samples=n_samples, rate_hz=rate_hz)
    if not bounds:
        return read
    stops = [stop for _, stop in bounds]
    # The recorded sound before each hole, and that after the last one.
    edges = [0, *(edge for hole in bounds for edge in hole), n_samples]
    recorded = list(zip(edges[::2], edges[1::2], strict=True))
    reach = round(REACH_S * rate_hz)
    read_again = lru_cache(_KEPT_READS)(read)

    def read_filled(start: int, stop: int) -> Samples:
        samples = read(start, stop).copy()

        def sound(first: int, last: int) -> Samples:
            if first == last:
                return samples[:0]
            if start <= first and last <= stop:
                return samples[first - start : last - start]
            return read_again(first, last)

        for index in range(bisect_right(stops, start), len(bounds)):
            begin, end = bounds[index]
            if begin >= stop:
                break
            before = sound(max(recorded[index][0], begin - reach), begin)
            after = sound(end, min(recorded[index + 1][1], end + reach))
            first, last = max(begin, start), min(end, stop)
            samples[first - start : last - start] = _fill(
                before, after, np.arange(first, last) - begin, length=end - begin
            )
        return samples

    return read_filled


def _bounds(holes: Sequence[Interval], *, n_samples: int, rate_hz: int) -> list[tuple[int, int]]:
    """Return the samples to fill in order, apart from each other."""
    found: list[tuple[int, int]] = []
    for start_s, end_s in sorted(holes):
        start = max(math.floor((start_s - GUARD_S) * rate_hz), 0)
        stop = min(math.ceil((end_s + GUARD_S) * rate_hz), n_samples)
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        elif start < stop:
            found.append((start, stop))
    return found


def _fill(before: Samples, after: Samples, offsets: NDArray[np.int64], *, length: int) -> Samples:
    """Return the samples of a hole at some offsets from its start.

    The powers of both sides are faded, which keeps the level of noise.
    """
    if not before.size and not after.size:
        return np.zeros(offsets.size, dtype=np.float32)
    if not after.size:
        return before[-1 - _mirrored(offsets, before.size)]
    from_end = length - 1 - offsets
    if not before.size:
        return after[_mirrored(from_end, after.size)]
    angles = (offsets + 0.5) * (np.pi / 2 / length)
    mixed: Samples = (
        np.cos(angles) * before[-1 - _mirrored(offsets, before.size)]
        + np.sin(angles) * after[_mirrored(from_end, after.size)]
    ).astype(np.float32)
    return mixed


def _mirrored(offsets: NDArray[np.int64], n_samples: int) -> NDArray[np.int64]:
    """Return positions in a sound that is repeated without end, forwards and backwards in turn."""
    within = offsets % (2 * n_samples)
    return np.minimum(within, 2 * n_samples - 1 - within)
