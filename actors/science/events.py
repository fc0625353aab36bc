"""Class probabilities of chunks to events: what made noise, from when to when, how loud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from actors.science.chunks import RATE_HZ
from actors.science.levels import LevelSeries
from actors.science.types import Chunk, Event

#: The class of everything that is no event.
BACKGROUND = "background"

#: A chunk counts for its best class from this probability on. Lower finds more and errs more.
THRESHOLD = 0.5

#: A- and time-averaged level in dB re full scale under which a chunk is silence whatever the
#: classifier makes of it: the rounding noise of 16-bit audio lies around -98 dB.
QUIET_DB = -80.0

#: This many chunks that are no event, between two of the same type, are part of one event.
LONGEST_GAP = 1

_NONE = -1


def merge(
    scores: NDArray[np.float32],
    chunks: Sequence[Chunk],
    *,
    classes: Sequence[str],
    levels: LevelSeries,
    duration_s: float,
) -> list[Event]:
    """Merge the chunks of a recording into events.

    A run of chunks with the same best class is an event, when that class is no background and
    each chunk reaches `THRESHOLD`; gaps of up to `LONGEST_GAP` chunks inside one type are closed.

    Parameters
    ----------
    scores : numpy.ndarray [shape=(n_chunks, n_classes)]
        Probabilities, the rows in the order of ``chunks``.
    chunks
        Consecutive chunks of the recording.
    classes
        Names of the columns.
    levels
        Levels of the same recording.
    duration_s
        Its length at its own rate; no event ends later.

    Returns
    -------
    list of Event
        By start. ``confidence`` is the mean probability over the event's chunks, closed gaps
        included. Events never overlap.

    Raises
    ------
    ValueError
        When the shape of the scores does not fit the chunks and classes.
    """
    if scores.shape != (len(chunks), len(classes)):
        raise ValueError("there is a row of scores for each chunk and a column for each class")
    best = _best(scores, chunks, classes=classes, levels=levels)
    found: list[Event] = []
    for column, first, last in _runs(_close_gaps(best)):
        start_s = chunks[first].start / RATE_HZ
        end_s = min(chunks[last].stop / RATE_HZ, duration_s)
        if end_s <= start_s:
            continue
        confidence = float(scores[first : last + 1, column].mean(dtype=np.float64))
        event = Event(
            start_s=start_s,
            end_s=end_s,
            noise_type=classes[column],
            confidence=min(max(confidence, 0.0), 1.0),
            laeq_db=levels.laeq_db(start_s, end_s),
            lafmax_db=levels.lafmax_db(start_s, end_s),
        )
        found.append(event)
    return found


def _best(
    scores: NDArray[np.float32],
    chunks: Sequence[Chunk],
    *,
    classes: Sequence[str],
    levels: LevelSeries,
) -> list[int]:
    """The column that each chunk counts for, or `_NONE`."""
    columns = scores.argmax(axis=1)
    best: list[int] = []
    for chunk, column, row in zip(chunks, columns.tolist(), scores, strict=True):
        is_event = classes[column] != BACKGROUND and row[column] >= THRESHOLD
        if is_event:
            level_db = levels.laeq_db(chunk.start / RATE_HZ, chunk.stop / RATE_HZ)
            is_event = level_db is not None and level_db >= QUIET_DB
        best.append(column if is_event else _NONE)
    return best


def _close_gaps(best: Sequence[int]) -> list[int]:
    closed = list(best)
    for column, first, last in _runs(best, of_gaps=True):
        is_inside = first > 0 and last + 1 < len(best)
        if column == _NONE and is_inside and last - first < LONGEST_GAP:
            before, after = best[first - 1], best[last + 1]
            if before == after:
                closed[first : last + 1] = [before] * (last - first + 1)
    return closed


def _runs(best: Sequence[int], *, of_gaps: bool = False) -> Iterator[tuple[int, int, int]]:
    """Column, first and last index of each run of one column; runs of `_NONE` if asked for."""
    first = 0
    for column, members in groupby(best):
        last = first + sum(1 for _ in members) - 1
        if column != _NONE or of_gaps:
            yield column, first, last
        first = last + 1
