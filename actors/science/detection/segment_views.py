"""Inputs of segment classification: chunks of a segment, as features or as textures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TypeAlias

import numpy as np

from actors.science.detection import features, textures
from actors.science.detection.chunks import HOP, MIN_CHUNK, RATE_HZ, STEP, Grid
from actors.science.detection.ensemble import Array

#: Returns the samples ``[start, stop)`` of a recording at 16 kHz, silent outside of it. Positions
#: are relative to the recording, not to its grid.
Read: TypeAlias = Callable[[int, int], Array]
#: Returns an input of a segment by its name in `VIEWS` [shape=(n_chunks, width)].
Views: TypeAlias = Callable[[str], Array]

#: Samples of context around a segment for its features, where the recording has them.
MARGIN = features.MARGIN

#: Segments are classified in equal parts of about this many samples, whose results are averaged.
#: One part of five seconds errs more often than the mean of two or three shorter parts.
PART = 2 * RATE_HZ

#: Maximum number of parts, evenly spread over the segment: more add no information, and hours of
#: rain would take minutes.
_MOST_PARTS = 12


def chunks_of(start: int, stop: int, *, n_samples: int) -> list[tuple[int, int]]:
    """Return the chunks in which a segment is classified, as sample ranges ``[start, stop)``.

    Equal parts of about `PART`, of which at most `_MOST_PARTS` are used. A segment shorter than
    `MIN_CHUNK` is extended by the sound around it; a shorter recording is used whole.
    """
    lacking = max(0, MIN_CHUNK - (stop - start))
    start = max(0, min(start - lacking // 2, n_samples - MIN_CHUNK))
    stop = min(max(stop, start + MIN_CHUNK), n_samples)
    n_parts = max(1, -(-(stop - start - MIN_CHUNK) // PART))
    length = (stop - start) // n_parts
    taken = np.linspace(0, n_parts - 1, min(n_parts, _MOST_PARTS)).round().astype(int)
    return [(start + part * length, start + (part + 1) * length) for part in taken.tolist()]


def chunk_features(samples: Array) -> Array:
    """Compute the features [shape=(N_FEATURES,)] of a chunk with `MARGIN` samples around it."""
    padded = _filled(samples)
    length = (padded.size - 2 * MARGIN) // HOP * HOP
    found: Array = features.extract(padded, [(0, length)])[0]
    return found


def chunk_textures(samples: Array) -> Array:
    """Compute the textures [shape=(N_TEXTURES,)] of a chunk with `MARGIN` samples around it."""
    padded = _filled(samples)
    return textures.extract(padded[MARGIN : padded.size - MARGIN])


#: Inputs of segment classification, computed from a chunk with `MARGIN` samples around it.
VIEWS: Mapping[str, Callable[[Array], Array]] = {
    "features": chunk_features,
    "textures": chunk_textures,
}


def views_of(parts: Sequence[Array]) -> Views:
    """Return the inputs of a segment, each computed at its first use.

    ``parts`` are the chunks of the segment at 16 kHz, each with `MARGIN` samples of context on each
    side [shape=(n + 2 * MARGIN,)].
    """

    @cache
    def view(name: str) -> Array:
        return np.stack([VIEWS[name](part) for part in parts])

    return view


def views_by_frames(read: Read, grid: Grid) -> Callable[[int, int], Views]:
    """Return a function that gives the inputs of the frames ``[first, stop)`` of a recording.

    It keeps those of the last segment, for the models that classify it one after another.
    """

    @lru_cache(maxsize=1)
    def views(first: int, stop: int) -> Views:
        return views_of(
            [
                read(start - grid.lead - MARGIN, end - grid.lead + MARGIN)
                for start, end in chunks_of(first * STEP, stop * STEP, n_samples=grid.length)
            ]
        )

    return views


def _filled(samples: Array) -> Array:
    """Pad a recording that is shorter than the shortest chunk with silence."""
    return np.pad(samples, (0, max(0, MIN_CHUNK + 2 * MARGIN - samples.size)))
