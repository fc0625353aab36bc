"""From class probabilities of frames to segments of one class.

The scores are decoded by the most probable path through the classes, where every change of class
has a cost (Viterbi).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.science.detection.chunks import STEP_S
from actors.science.types import BACKGROUND

#: Costs of beginning or ending a sound, and of changing directly from one sound to another, in
#: natural logarithms of probability. Higher costs make changes fewer and more certain.
ONSET_COST = 4.0
CHANGE_COST = 12.0

#: A decoded segment is extended outwards while the probability of sound is at least this: the lower
#: threshold of the hysteresis.
RELEASE = 0.35

#: Intervals without segments may contain steady sound. They are classified in windows of about the
#: first length, if they last at least the second.
STEADY_WINDOW_S, STEADY_S = 10.0, 3.0

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """The frames ``[first, stop)`` of one sound."""

    first: int
    stop: int


def find_segments(scores: Scores, *, classes: Sequence[str]) -> list[Segment]:
    """Return the segments in which a class other than `BACKGROUND` sounds.

    Two segments may touch, where one sound follows another.
    """
    background = list(classes).index(BACKGROUND)
    path = _best_path(scores, background=background)
    sounds = 1.0 - scores[:, background]
    changes = np.flatnonzero(np.diff(path)) + 1
    bounds = [0, *changes.tolist(), len(path)]
    cores = [
        Segment(first, stop)
        for first, stop in pairwise(bounds)
        if stop > first and path[first] != background
    ]
    return _extend_until_release(cores, sounds)


def _best_path(scores: Scores, *, background: int) -> NDArray[np.intp]:
    """Return the class of each frame on the most probable path, by Viterbi's algorithm.

    Staying in a class costs nothing, changing between background and any sound `ONSET_COST`, and
    from one sound to another `CHANGE_COST`. So there are only two ways into a sound besides
    staying, and one into background: a frame takes a few operations on a row.
    """
    emissions = np.log(np.maximum(scores, 1e-6), dtype=np.float64)
    n_steps = len(emissions)
    stays = np.empty(emissions.shape, dtype=bool)
    into_sound = np.empty(n_steps, dtype=np.intp)
    into_background = np.empty(n_steps, dtype=np.intp)
    total = np.zeros(emissions.shape[1])
    for step, emission in enumerate(emissions):
        silence = total[background]
        total[background] = -np.inf
        loudest = int(total.argmax())
        onset, change = silence - ONSET_COST, total[loudest] - CHANGE_COST
        entry = max(onset, change)
        into_sound[step] = background if onset >= change else loudest
        np.greater_equal(total, entry, out=stays[step])
        np.maximum(total, entry, out=total)
        offset = total[loudest] - ONSET_COST
        stays[step, background] = silence >= offset
        into_background[step] = loudest
        total[background] = max(silence, offset)
        total += emission
    path = np.empty(n_steps, dtype=np.intp)
    at = int(total.argmax()) if n_steps else background
    for step in range(n_steps - 1, -1, -1):
        path[step] = at
        if not stays[step, at]:
            at = int(into_background[step] if at == background else into_sound[step])
    return path


def _extend_until_release(cores: Sequence[Segment], sounds: NDArray[np.float32]) -> list[Segment]:
    """Extend segments outwards while something still sounds, up to their neighbours."""
    found: list[Segment] = []
    for number, core in enumerate(cores):
        first, stop = core.first, core.stop
        lowest = found[-1].stop if found else 0
        highest = cores[number + 1].first if number + 1 < len(cores) else len(sounds)
        while first > lowest and sounds[first - 1] >= RELEASE:
            first -= 1
        while stop < highest and sounds[stop] >= RELEASE:
            stop += 1
        found.append(Segment(first, stop))
    return found


def quiet_windows(segments: Sequence[Segment], *, is_lost: NDArray[np.bool_]) -> list[Segment]:
    """Divide the gaps between segments into windows of equal length.

    Short gaps are left out, unless they are the whole recording. So are the frames that ``is_lost``
    marks [shape=(n_steps,)].
    """
    is_quiet = ~is_lost
    for each in segments:
        is_quiet[each.first : each.stop] = False
    found: list[Segment] = []
    edges_of_gaps = np.flatnonzero(np.diff(np.concatenate([[False], is_quiet, [False]])))
    for first, stop in edges_of_gaps.reshape(-1, 2).tolist():
        if (stop - first) * STEP_S < STEADY_S and stop - first < is_quiet.size:
            continue
        n_windows = max(1, round((stop - first) * STEP_S / STEADY_WINDOW_S))
        edges = np.linspace(first, stop, n_windows + 1).round().astype(int).tolist()
        found += [Segment(a, b) for a, b in pairwise(edges)]
    return found
