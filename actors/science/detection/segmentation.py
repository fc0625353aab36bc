"""From class probabilities to events with type, start, end, levels and confidence.

The framewise scores are decoded into segments of one class (`decoding`). Each segment is then
classified as a whole. An interval that is much louder than its background and matches no class of
the model becomes `UNCLASSIFIED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import loud_unknown
from actors.science.detection.chunks import STEP_S
from actors.science.detection.decoding import Scores, Segment, find_segments, quiet_windows
from actors.science.detection.holes import Interval, frames_within, outside
from actors.science.detection.silence import QUIET_DB
from actors.science.levels.indications import is_overloaded
from actors.science.levels.levels import LevelHistory
from actors.science.types import BACKGROUND, UNCLASSIFIED, Event, TypeProbability

#: Minimum confidence of an event, unless the model's file sets another one for its class.
THRESHOLD = 0.35

#: Events of one type closer than this are joined, such as the barks of a dog.
LONGEST_GAP_S = 0.5

#: Holes of this length divide events: the frames wholly in one last `LONGEST_GAP_S` or more.
LONG_HOLE_S = LONGEST_GAP_S + STEP_S

#: Shorter events are dropped.
SHORTEST_S = 0.2

#: Tolerance for comparing times: sums of tenths differ by rounding, which is far less than this.
_TINY_S = 1e-6

#: The edges of an event are moved inwards to where its level is this far above the background, but
#: only if its mean level exceeds the background by the second value. Below that, the edges would
#: follow every fluctuation of the background.
EDGE_DB, EDGE_CONTRAST_DB = 4.0, 4.0

#: Number of candidate types stored with an event.
CANDIDATES = 5


@dataclass(frozen=True)
class Named:
    """The classification of a segment.

    Attributes
    ----------
    answers
        The reported types, the most probable first; none for background, or if no type is probable
        enough.
    candidates
        Possible types, the best one first.
    overlays
        Sounds in parts of the segment, in addition to the answers.
    """

    answers: Sequence[TypeProbability] = ()
    candidates: Sequence[TypeProbability] = ()
    overlays: Sequence[tuple[Segment, TypeProbability]] = ()


#: Classifies the frames ``[first, stop)``.
ClassifySegment = Callable[[int, int], Named]

#: Returns whether a segment, one of several, differs from what is around it.
StandsOut = Callable[[Segment, Sequence[Segment]], bool]


def in_order(likely: Mapping[str, float]) -> list[TypeProbability]:
    """Sort types by probability, in descending order."""
    return [
        TypeProbability(name, p) for name, p in sorted(likely.items(), key=lambda each: -each[1])
    ]


def likeliest(
    shares: NDArray[np.floating], *, classes: Sequence[str], least: Mapping[str, float]
) -> Named:
    """Classify a segment as the most probable of mutually exclusive classes.

    ``least`` has the minimum probability of each class, `THRESHOLD` for those missing from it.
    """
    best = classes[int(np.argmax(shares))]
    found = in_order(dict(zip(classes, shares.tolist(), strict=True)))
    is_sure = best != BACKGROUND and found[0].score >= least.get(best, THRESHOLD)
    return Named(
        found[:1] if is_sure else (), [each for each in found if each.noise_type != BACKGROUND]
    )


def merge(
    scores: Scores,
    *,
    classes: Sequence[str],
    classify: ClassifySegment,
    levels: LevelHistory,
    blur_s: float,
    lead_s: float = 0.0,
    classify_steady: ClassifySegment | None = None,
    stands_out: StandsOut = lambda segment, segments: True,
    holes: Sequence[Interval] = (),
    quiet_db: float = QUIET_DB,
) -> list[Event]:
    """Turn the framewise scores of a whole recording into events.

    Parameters
    ----------
    scores : numpy.ndarray [shape=(n_steps, n_classes)]
        Class probabilities of every frame of `STEP_S`.
    classes
        Names of the columns; `BACKGROUND` is one of them.
    classify
        Classifies a segment; see `inference.segment_classifier`.
    levels
        Levels of the same recording, in dBFS. No event ends after the recording.
    blur_s
        How far the scores may extend beyond a sound: edges are moved inwards by at most this.
    lead_s
        Time from the start of the scores' grid to that of the recording.
    classify_steady
        Classifies a window without segments; without it such windows have no events.
    stands_out
        Segments, windows and overlays that do not stand out from the sound around them, or from
        noise, are dropped; see `contrast`. By default all do.
    holes
        Where nothing is recorded, in order and apart from each other. The scores are of filled
        holes. No event begins or ends in one; those of `LONG_HOLE_S` or more divide events.
    quiet_db
        The level below which sound is silence; see `silence`.

    Returns
    -------
    list of Event
        By start; those of one type never overlap. ``confidence`` is the probability of the type
        given the whole segment; for an `UNCLASSIFIED` event it is the fraction of its energy that
        is not background.

    Raises
    ------
    ValueError
        If the shape of the scores does not match the classes.
    """
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError("there is a column of scores for each class")
    is_lost = frames_within(holes, n_steps=len(scores), lead_s=lead_s, least_s=LONG_HOLE_S)
    if is_lost.any():
        scores = np.where(is_lost[:, None], np.array(classes) == BACKGROUND, scores)
    decoded = find_segments(scores, classes=classes)
    segments = [each for each in decoded if stands_out(each, decoded)]
    classified = [(each, classify(each.first, each.stop)) for each in segments]
    if classify_steady is not None:
        quiet = quiet_windows(segments, is_lost=is_lost)
        # All of the recording is in these and in segments: nothing is left to compare them with.
        everything = [*segments, *quiet]
        classified += [
            (each, classify_steady(each.first, each.stop))
            for each in quiet
            if stands_out(each, everything)
        ]
    named = [
        event
        for segment, found in classified
        for event in _events(segment, found, keep=lambda part: stands_out(part, segments))
    ]
    edges = _Edges(levels, blur_s=blur_s, lead_s=lead_s, holes=holes, quiet_db=quiet_db)
    joined = (_moved(edges.refined(event), -lead_s) for event in _joined(named))
    lasting = (event for event in _measured(joined, levels, holes) if _lasts(event))
    audible = [event for event in lasting if _is_audible(event, quiet_db)]
    unnamed = [
        _moved(_event(segment, TypeProbability(UNCLASSIFIED, 0.0), found.candidates), -lead_s)
        for segment, found in classified
        if not found.answers
    ]
    intervals = loud_unknown.find(levels, lead_s=lead_s, holes=holes, quiet_db=quiet_db)
    loud = _unexplained(intervals, audible, unnamed, levels, holes)
    return sorted([*audible, *loud], key=lambda event: (event.start_s, -event.confidence))


def _events(segment: Segment, named: Named, *, keep: Callable[[Segment], bool]) -> Iterable[Event]:
    """Return the events of a segment, one for each reported type and each overlay to keep."""
    for answer in named.answers:
        others = [each for each in named.candidates if each.noise_type != answer.noise_type]
        first = [answer] if len(others) < len(named.candidates) else []
        yield _event(segment, answer, [*first, *others])
    for part, found in named.overlays:
        if keep(part):
            yield _event(part, found, [found])


def _event(
    segment: Segment, answer: TypeProbability, candidates: Sequence[TypeProbability]
) -> Event:
    return Event(
        start_s=round(segment.first * STEP_S, 3),
        end_s=round(segment.stop * STEP_S, 3),
        noise_type=answer.noise_type,
        confidence=answer.score,
        laeq_db=None,
        lafmax_db=None,
        candidates=tuple(candidates[:CANDIDATES]),
    )


def _joined(found: Sequence[Event]) -> list[Event]:
    """Join events of one type that are close to each other."""
    joined: list[Event] = []
    latest: dict[str, int] = {}
    for event in sorted(found, key=lambda each: each.start_s):
        at = latest.get(event.noise_type)
        if at is not None and event.start_s - joined[at].end_s < LONGEST_GAP_S - _TINY_S:
            surer = max(joined[at], event, key=lambda each: each.confidence)
            joined[at] = replace(surer, start_s=joined[at].start_s, end_s=event.end_s)
        else:
            latest[event.noise_type] = len(joined)
            joined.append(event)
    return joined


def _moved(event: Event, by_s: float) -> Event:
    """Shift an event in time, clipped to the start of the recording."""
    start_s, end_s = max(0.0, event.start_s + by_s), event.end_s + by_s
    return replace(event, start_s=round(start_s, 3), end_s=round(end_s, 3))


class _Edges:
    """Moves the edges of events inwards to where the level rises above the background.

    Times are relative to the start of the grid.
    """

    def __init__(
        self,
        levels: LevelHistory,
        *,
        blur_s: float,
        lead_s: float,
        holes: Sequence[Interval],
        quiet_db: float,
    ) -> None:
        self._most = round(blur_s / STEP_S)
        self._level_db, self._background_db = loud_unknown.contrast(
            levels, lead_s=lead_s, holes=holes, quiet_db=quiet_db
        )

    def refined(self, event: Event) -> Event:
        """Trim background from both ends of an event.

        An event that does not stand out, such as lasting rain, is left unchanged.
        """
        first, stop = round(event.start_s / STEP_S), round(event.end_s / STEP_S)
        level_db = self._level_db[first:stop]
        if not level_db.size:
            return event
        above_db = level_db - self._background_db[first:stop]
        loudness_db = 10.0 * np.log10(np.power(10.0, level_db / 10.0).mean())
        contrast_db = loudness_db - float(self._background_db[first:stop].mean())
        if contrast_db < EDGE_CONTRAST_DB:
            return event
        counts = np.flatnonzero(above_db >= min(EDGE_DB, contrast_db / 2))
        start = min(int(counts[0]), self._most) if counts.size else 0
        end = max(int(counts[-1]) + 1, level_db.size - self._most) if counts.size else level_db.size
        if end <= start:
            return event
        return replace(
            event,
            start_s=round((first + start) * STEP_S, 3),
            end_s=round((first + end) * STEP_S, 3),
        )


def _measured(
    found: Iterable[Event], levels: LevelHistory, holes: Sequence[Interval]
) -> Iterable[Event]:
    """Add levels to events, and clip them to holes and to the end of the recording."""
    for event in (outside(each, holes) for each in found):
        end_s = min(event.end_s, levels.duration_s)
        if end_s > event.start_s:
            yield replace(
                event,
                end_s=end_s,
                laeq_db=levels.laeq_db(event.start_s, end_s),
                lafmax_db=levels.lafmax_db(event.start_s, end_s),
                overloaded=is_overloaded(levels, event.start_s, end_s),
            )


def _lasts(event: Event) -> bool:
    return event.end_s - event.start_s >= SHORTEST_S - _TINY_S


def _is_audible(event: Event, quiet_db: float) -> bool:
    return event.laeq_db is not None and event.laeq_db >= quiet_db


def _unexplained(
    loud: Iterable[loud_unknown.LoudInterval],
    heard: Sequence[Event],
    unnamed: Sequence[Event],
    levels: LevelHistory,
    holes: Sequence[Interval],
) -> Iterable[Event]:
    """Return loud intervals that no event overlaps, with candidates from overlapping segments."""
    for interval in loud:
        if any(_shared_s(event, interval) > 0.0 for event in heard):
            continue
        beside = [event for event in unnamed if _shared_s(event, interval) > 0.0]
        may_be = max(beside, key=lambda event: _shared_s(event, interval), default=None)
        yield from _measured(
            [
                Event(
                    start_s=interval.start_s,
                    end_s=interval.end_s,
                    noise_type=UNCLASSIFIED,
                    confidence=interval.share,
                    laeq_db=None,
                    lafmax_db=None,
                    candidates=() if may_be is None else may_be.candidates,
                )
            ],
            levels,
            holes,
        )


def _shared_s(event: Event, interval: loud_unknown.LoudInterval) -> float:
    """Return the duration of the overlap; 0 or less if there is none."""
    return min(event.end_s, interval.end_s) - max(event.start_s, interval.start_s)
