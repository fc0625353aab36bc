"""The recorded time of a recording: all but its holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.science.types import Hole


def bounds_of(holes: Sequence[Hole]) -> NDArray[np.int64]:
    """Return start and stop of each hole, without overlaps [shape=(n_holes, 2)].

    Parameters
    ----------
    holes
        In the order of their starts.
    """
    bounds = np.array([(hole.start, hole.stop) for hole in holes], dtype=np.int64).reshape(-1, 2)
    np.maximum.accumulate(bounds[:, 1], out=bounds[:, 1])
    bounds[1:, 0] = np.maximum(bounds[1:, 0], bounds[:-1, 1])
    return bounds[bounds[:, 1] > bounds[:, 0]]


def frames_until(
    frames: NDArray[np.int64] | NDArray[np.float64], holes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how many frames are recorded before some frames [shape as ``frames``].

    Levels are means over recorded frames, so that a hole lowers none of them.

    Parameters
    ----------
    frames
        Not negative.
    holes
        As `bounds_of` returns them.
    """
    if not holes.size:
        return frames.astype(np.float64, copy=False)
    lost_until = np.zeros(holes.shape)
    lost_until[:, 1] = np.cumsum(holes[:, 1] - holes[:, 0])
    lost_until[1:, 0] = lost_until[:-1, 1]
    found: NDArray[np.float64] = frames - np.interp(frames, holes.ravel(), lost_until.ravel())
    return found
