"""Detection of speech in a recording, by the backbone's own classes.

Used for muting, so it prefers false alarms to misses: the probability threshold is low, and each
interval is extended on both sides. It may detect other sounds as speech, such as a bark or a laugh.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import numpy as np

from actors.science.detection.tagging.backbone import (
    FRAME,
    RATE_HZ,
    SHORTEST,
    Array,
    BackboneNetwork,
)

#: The AudioSet classes with intelligible words: Speech and its children (outputs 0 to 7), shouting
#: (8 to 14) and whispering (15). Singing is not among them.
TAGS = slice(0, 16)

#: Window length in frames of 0.32 s; each frame is classified with its two neighbours. Longer
#: windows miss more short sounds, shorter ones take more time.
WINDOW_FRAMES = 6

#: Minimum probability of a speech frame.
THRESHOLD = 0.15

#: Extension on both sides: the onset of a word is quieter than the word.
MARGIN_S = 0.5

#: Returns the samples ``[start, stop)`` of a recording at 32 kHz.
Read = Callable[[int, int], Array]
Intervals = list[tuple[float, float]]


def find(
    backbone: BackboneNetwork,
    read: Read,
    n_samples: int,
    *,
    on_progress: Callable[[float], object] = lambda _share: None,
) -> Intervals:
    """Find the intervals with speech.

    Parameters
    ----------
    backbone
        The network.
    read
        Reads the recording, window by window from start to end.
    n_samples
        Its length at 32 kHz.
    on_progress
        Receives the fraction that is done, after each window.

    Returns
    -------
    list of (start_s, end_s)
        In order of time; they neither overlap nor touch. The first may begin before the recording
        and the last may end after it, by up to `MARGIN_S`.
    """
    found: Intervals = []
    window = WINDOW_FRAMES * FRAME
    for start in range(0, n_samples, window):
        stop = min(start + window, n_samples)
        # A window that is too short is extended by the sound before it.
        first = max(0, min(start, stop - SHORTEST))
        logits = backbone.tags(embedded(backbone, read(first, stop)))[:, TAGS].max(axis=1)
        likely = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        for place in np.flatnonzero(likely >= THRESHOLD).tolist():
            begins = first + place * FRAME
            found.append((begins / RATE_HZ, min(begins + FRAME, stop) / RATE_HZ))
        on_progress(stop / n_samples)
    return widened(found)


def widened(intervals: Iterable[tuple[float, float]]) -> Intervals:
    """Widen intervals by `MARGIN_S` on each side, and join those that then overlap or touch."""
    return union((start_s - MARGIN_S, end_s + MARGIN_S) for start_s, end_s in intervals)


def union(*sets: Iterable[tuple[float, float]]) -> Intervals:
    """Join the intervals of several lists where they overlap or touch."""
    found: Intervals = []
    for start_s, end_s in sorted(itertools.chain(*sets)):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((start_s, end_s))
    return found


def embedded(backbone: BackboneNetwork, samples: Array) -> Array:
    """Embed the frames of a window, each with its neighbours [shape=(n_frames, n_embedding)]."""
    frames = backbone.frames(samples)[: -(-samples.size // FRAME)]
    return np.stack([frames[max(0, at - 1) : at + 2].mean(axis=0) for at in range(len(frames))])
