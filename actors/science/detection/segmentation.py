"""Class probabilities to events: what made noise, from when to when, how loud, how sure.

The scores of the first look are decoded to stretches in which one class sounds: by the most
likely path through the classes, where every change of class costs something (Viterbi). Each
stretch is named by a second look at the whole of it. What is louder than its background by much
and was heard as nothing that the model knows comes out as `UNCLASSIFIED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.science.detection import loud_unknown
from actors.science.detection.chunks import STEP_S
from actors.science.levels.levels import LevelSeries
from actors.science.types import BACKGROUND, UNCLASSIFIED, Candidate, Event

#: What it costs to begin or end a sound, and to go from one sound to another at once, in natural
#: logarithms of probability. Dearer changes are fewer and surer.
ONSET_COST = 4.0
CHANGE_COST = 12.0

#: A stretch reaches from its decoded part outwards to where something sounds with less than this
#: probability: a sound is let go later than it is taken up.
RELEASE = 0.35

#: An event counts from this confidence on, unless the model's file says otherwise for its class.
THRESHOLD = 0.35

#: Sounds of one type with less than this between them are one event, as a dog's barks are.
LONGEST_GAP_S = 0.5

#: Shorter events are none.
SHORTEST_S = 0.2

#: Times are sums of tenths: the same length may differ by a rounding, far less than this.
_TINY_S = 1e-6

#: The edges of an event are drawn in to where its level is this far above the background; only if
#: its mean level is so far above it that the two can be told apart. Less is at the mercy of every
#: sway of the background.
EDGE_DB, EDGE_CONTRAST_DB = 4.0, 4.0

#: How many of the types that an event may be are kept with it.
CANDIDATES = 5

#: A- and time-averaged level in dB re full scale under which all is silence whatever the
#: classifier makes of it: the rounding noise of 16-bit audio lies around -98 dB.
QUIET_DB = -80.0

#: Where nothing stands out, sound may be steady. It is looked at in windows of about this length,
#: and only where there is this much of it.
STEADY_WINDOW_S, STEADY_S = 10.0, 3.0

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps ``[first, stop)`` in which something sounds."""

    first: int
    stop: int


@dataclass(frozen=True)
class Named:
    """What the second look makes of a stretch.

    Attributes
    ----------
    answers
        The types that it is reported as, the likeliest first; none if it is background, or if no
        type is likely enough.
    candidates
        What it may be, the likeliest first.
    overlays
        What sounds in parts of it beside the answers.
    """

    answers: Sequence[Candidate] = ()
    candidates: Sequence[Candidate] = ()
    overlays: Sequence[tuple[Segment, Candidate]] = ()


#: Names the steps ``[first, stop)``.
SecondLook = Callable[[int, int], Named]


def in_order(likely: Mapping[str, float]) -> list[Candidate]:
    """Sort types by their probability, the likeliest first."""
    return [Candidate(name, p) for name, p in sorted(likely.items(), key=lambda each: -each[1])]


def likeliest(
    shares: NDArray[np.floating], *, classes: Sequence[str], least: Mapping[str, float]
) -> Named:
    """Name a stretch as the likeliest of classes that exclude each other.

    ``least`` has the least probability of each class, `THRESHOLD` if it is not there.
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
    look: SecondLook,
    levels: LevelSeries,
    blur_s: float,
    lead_s: float = 0.0,
    steady_look: SecondLook | None = None,
) -> list[Event]:
    """Turn the scores of a whole recording into events.

    Parameters
    ----------
    scores : numpy.ndarray [shape=(n_steps, n_classes)]
        Class probabilities at every step of `STEP_S`.
    classes
        Names of the columns; `BACKGROUND` is one of them.
    look
        Names a stretch; see `ear.looker`.
    levels
        Levels of the same recording, in dBFS. No event ends after its end.
    blur_s
        How far the scores may reach beyond a sound: its edges are drawn in by up to this.
    lead_s
        How much earlier than the recording the grid of the scores begins.
    steady_look
        Names a stretch in which nothing stands out; without it there is no event in one.

    Returns
    -------
    list of Event
        By start; those of one type never overlap. ``confidence`` is the probability of the type
        given the whole stretch; of an `UNCLASSIFIED` event the share of its energy that is not
        background.

    Raises
    ------
    ValueError
        When the shape of the scores does not fit the classes.
    """
    if scores.ndim != 2 or scores.shape[1] != len(classes):
        raise ValueError("there is a column of scores for each class")
    stretches = find_stretches(scores, classes=classes)
    looked = [(each, look(each.first, each.stop)) for each in stretches]
    if steady_look is not None:
        quiet = _windows(stretches, n_steps=len(scores))
        looked += [(each, steady_look(each.first, each.stop)) for each in quiet]
    named = [event for stretch, found in looked for event in _events(stretch, found)]
    edges = _Edges(levels, blur_s=blur_s, lead_s=lead_s)
    joined = (_moved(edges.refined(event), -lead_s) for event in _joined(named))
    lasting = (event for event in _measured(joined, levels) if _lasts(event))
    audible = [event for event in lasting if _is_audible(event)]
    unnamed = [
        _moved(_event(stretch, Candidate(UNCLASSIFIED, 0.0), found.candidates), -lead_s)
        for stretch, found in looked
        if not found.answers
    ]
    loud = _unexplained(loud_unknown.find(levels, lead_s=lead_s), audible, unnamed, levels)
    return sorted([*audible, *loud], key=lambda event: (event.start_s, -event.confidence))


def find_stretches(scores: Scores, *, classes: Sequence[str]) -> list[Segment]:
    """The stretches of a recording in which a class other than `BACKGROUND` sounds.

    Two stretches may touch, where one sound follows another.
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
    return _let_go(cores, sounds)


def _best_path(scores: Scores, *, background: int) -> NDArray[np.intp]:
    """The class of each step on the most likely path, by Viterbi's algorithm.

    A path stays in its class for nothing, goes from background to any sound and back for
    `ONSET_COST`, and from one sound to another for `CHANGE_COST`. So there are only two ways into
    a sound beside staying, and one into background: a step takes a few operations on a row.
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


def _let_go(cores: Sequence[Segment], sounds: NDArray[np.float32]) -> list[Segment]:
    """Stretches reaching outwards while something still sounds, up to their neighbours."""
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


def _windows(stretches: Sequence[Segment], *, n_steps: int) -> list[Segment]:
    """What is between stretches, in windows of equal length; too short gaps are left out."""
    found: list[Segment] = []
    bounds = [0, *(step for each in stretches for step in (each.first, each.stop)), n_steps]
    for first, stop in zip(bounds[::2], bounds[1::2], strict=True):
        if (stop - first) * STEP_S < STEADY_S:
            continue
        n_windows = max(1, round((stop - first) * STEP_S / STEADY_WINDOW_S))
        edges = np.linspace(first, stop, n_windows + 1).round().astype(int).tolist()
        found += [Segment(a, b) for a, b in pairwise(edges)]
    return found


def _events(stretch: Segment, named: Named) -> Iterable[Event]:
    """The events of a stretch: one for each type that it is reported as."""
    for answer in named.answers:
        others = [each for each in named.candidates if each.noise_type != answer.noise_type]
        first = [answer] if len(others) < len(named.candidates) else []
        yield _event(stretch, answer, [*first, *others])
    for part, found in named.overlays:
        yield _event(part, found, [found])


def _event(stretch: Segment, answer: Candidate, candidates: Sequence[Candidate]) -> Event:
    return Event(
        start_s=round(stretch.first * STEP_S, 3),
        end_s=round(stretch.stop * STEP_S, 3),
        noise_type=answer.noise_type,
        confidence=answer.score,
        laeq_db=None,
        lafmax_db=None,
        candidates=tuple(candidates[:CANDIDATES]),
    )


def _joined(found: Sequence[Event]) -> list[Event]:
    """Events of one type that follow each other closely are one."""
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
    """The event at another time; nothing begins before the recording."""
    start_s, end_s = max(0.0, event.start_s + by_s), event.end_s + by_s
    return replace(event, start_s=round(start_s, 3), end_s=round(end_s, 3))


class _Edges:
    """Draws the edges of events in to where the level rises above the background.

    Times are counted from the beginning of the grid.
    """

    def __init__(self, levels: LevelSeries, *, blur_s: float, lead_s: float) -> None:
        self._most = round(blur_s / STEP_S)
        self._level_db = loud_unknown.level_db(levels, lead_s=lead_s)
        self._background_db = loud_unknown.background_db(self._level_db)

    def refined(self, event: Event) -> Event:
        """The event without the background at either side of it.

        Left as it is where the event does not stand out, as rain that lasts does not.
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


def _measured(found: Iterable[Event], levels: LevelSeries) -> Iterable[Event]:
    """Events with their levels, ended where the recording ends."""
    for event in found:
        end_s = min(event.end_s, levels.duration_s)
        if end_s > event.start_s:
            yield replace(
                event,
                end_s=end_s,
                laeq_db=levels.laeq_db(event.start_s, end_s),
                lafmax_db=levels.lafmax_db(event.start_s, end_s),
            )


def _lasts(event: Event) -> bool:
    return event.end_s - event.start_s >= SHORTEST_S - _TINY_S


def _is_audible(event: Event) -> bool:
    return event.laeq_db is not None and event.laeq_db >= QUIET_DB


def _unexplained(
    loud: Iterable[loud_unknown.Exceedance],
    heard: Sequence[Event],
    unnamed: Sequence[Event],
    levels: LevelSeries,
) -> Iterable[Event]:
    """Loud stretches that no event overlaps, with what they may be by the second look."""
    for stretch in loud:
        if any(_shared_s(event, stretch) > 0.0 for event in heard):
            continue
        beside = [event for event in unnamed if _shared_s(event, stretch) > 0.0]
        may_be = max(beside, key=lambda event: _shared_s(event, stretch), default=None)
        yield from _measured(
            [
                Event(
                    start_s=stretch.start_s,
                    end_s=stretch.end_s,
                    noise_type=UNCLASSIFIED,
                    confidence=stretch.share,
                    laeq_db=None,
                    lafmax_db=None,
                    candidates=() if may_be is None else may_be.candidates,
                )
            ],
            levels,
        )


def _shared_s(event: Event, stretch: loud_unknown.Exceedance) -> float:
    """For how long both last at once; 0 or less if they do not."""
    return min(event.end_s, stretch.end_s) - max(event.start_s, stretch.start_s)
