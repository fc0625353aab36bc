"""Quality of detected events, compared with a reference.

Segments and events are counted as defined by Mesaros, Heittola and Virtanen in "Metrics for
polyphonic sound event detection", Applied Sciences 6(6), 2016; sed_eval 0.2.1 is their
implementation, and gives the same counts. Two ratios differ from it, where it departs from the
paper:

- F1 is 2 TP / (2 TP + FP + FN), which is 0 if only the estimate or only the reference is empty.
  sed_eval computes it from precision and recall and returns NaN then.
- The error rate of an empty reference is undefined, NaN. sed_eval adds 2e-16 to the divisor, so
  that a single error gives 4.5e15.

Times are compared without a tolerance for rounding: 1.1 and 0.6 differ by more than a collar of
0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from actors.science.evaluation.labelled_events import (
    LabelledEvent,
    Recordings,
    refuse_nonsense,
    refuse_strangers,
)


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of hits (TP), reference items (TP + FN) and estimated items (TP + FP).

    A ratio whose divisor is 0 is NaN.
    """

    n_hits: int
    n_reference: int
    n_estimated: int

    @property
    def precision(self) -> float:
        """TP / (TP + FP), in [0, 1]."""
        return _ratio(self.n_hits, self.n_estimated)

    @property
    def recall(self) -> float:
        """TP / (TP + FN), in [0, 1]."""
        return _ratio(self.n_hits, self.n_reference)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), in [0, 1]: the harmonic mean of precision and recall."""
        return _ratio(2 * self.n_hits, self.n_reference + self.n_estimated)


@dataclass(frozen=True, slots=True)
class SegmentScore(Score):
    """A score of segments, with their errors: substitutions, deletions and insertions."""

    n_errors: int

    @property
    def error_rate(self) -> float:
        """(S + D + I) / (TP + FN), 0 or more; above 1 if there are more errors than events."""
        return _ratio(self.n_errors, self.n_reference)


AnyScore = TypeVar("AnyScore", bound=Score)


@dataclass(frozen=True, slots=True)
class Scores(Generic[AnyScore]):
    """A score of all labels together (counts are summed, then divided), and one per label."""

    micro: AnyScore
    per_class: dict[str, AnyScore]


def segment_f1(
    reference: Recordings,
    estimated: Recordings,
    *,
    durations_s: Mapping[str, float] | None = None,
    segment_s: float = 1.0,
) -> Scores[SegmentScore]:
    """Compare which labels are active in each segment of each recording.

    An event is active in the segments from ``floor(start_s / segment_s)`` up to, not including,
    ``ceil(end_s / segment_s)``. In a segment with R reference labels, E estimated ones and TP in
    both, S = min(R, E) - TP, D = max(0, R - E) and I = max(0, E - R), hence
    S + D + I = max(R, E) - TP. For one label alone that is FN + FP.

    Parameters
    ----------
    reference
        The true events of every recording.
    estimated
        The detected events.
    durations_s
        Evaluated duration of each recording; events after it are not counted. By default, up to the
        end of the last event, true or detected.
    segment_s
        Length of a segment; the last one of a recording may be shorter.

    Returns
    -------
    Scores of SegmentScore
        Per class for each label that occurs.

    Raises
    ------
    ValueError
        If ``segment_s`` is not positive, an event starts before 0 or ends before it starts, or a
        recording of ``estimated`` is missing from ``reference`` or from ``durations_s``.

    Notes
    -----
    Section 3.1.1 and 3.2 of the paper; `SegmentBasedMetrics` of sed_eval.
    """
    if not segment_s > 0:
        raise ValueError("a segment has a positive length")
    labels = _labels(reference, estimated)
    n_hits, n_reference, n_estimated = np.zeros((3, len(labels)), dtype=np.int64)
    n_errors = 0
    for name, true in reference.items():
        found = estimated.get(name, ())
        if durations_s is None:
            length_s = max((event.end_s for event in (*true, *found)), default=0.0)
        elif name in durations_s:
            length_s = durations_s[name]
        else:
            raise ValueError(f"how long is {name!r}?")
        n_segments = math.ceil(length_s / segment_s)
        is_true = _active(true, labels, n_segments=n_segments, segment_s=segment_s)
        is_found = _active(found, labels, n_segments=n_segments, segment_s=segment_s)
        is_hit = is_true & is_found
        n_hits += is_hit.sum(axis=0)
        n_reference += is_true.sum(axis=0)
        n_estimated += is_found.sum(axis=0)
        most = np.maximum(is_true.sum(axis=1), is_found.sum(axis=1))
        n_errors += int((most - is_hit.sum(axis=1)).sum())
    counts = zip(labels, n_hits.tolist(), n_reference.tolist(), n_estimated.tolist(), strict=True)
    return Scores(
        micro=SegmentScore(
            int(n_hits.sum()), int(n_reference.sum()), int(n_estimated.sum()), n_errors
        ),
        per_class={
            label: SegmentScore(hits, true, found, true + found - 2 * hits)
            for label, hits, true, found in counts
        },
    )


def activity_f1(
    reference: Recordings,
    estimated: Recordings,
    *,
    durations_s: Mapping[str, float] | None = None,
    segment_s: float = 1.0,
) -> SegmentScore:
    """Compare in which segments anything is active, regardless of the label.

    `segment_f1` with one label for all events; overlapping events merge. Parameters and errors are
    those of `segment_f1`.
    """
    merged = segment_f1(
        _of_one_label(reference),
        _of_one_label(estimated),
        durations_s=durations_s,
        segment_s=segment_s,
    )
    return merged.micro


def event_f1(
    reference: Recordings,
    estimated: Recordings,
    *,
    with_offsets: bool = True,
    collar_s: float = 0.5,
    length_share: float = 0.5,
) -> Scores[Score]:
    """Compare events one to one.

    A detected event matches a true one of its label if their starts differ by at most ``collar_s``
    and, with ``with_offsets``, their ends by at most ``max(collar_s, length_share * length)``, with
    the length of the true event. TP is the size of the largest matching in which each event occurs
    at most once, so it does not depend on the order of the events.

    Parameters
    ----------
    reference
        The true events of every recording.
    estimated
        The detected events.
    with_offsets
        Whether the ends must match too.
    collar_s
        Tolerance of starts and ends. A large one mixes up short events.
    length_share
        Tolerance of an end as a share of the true event's length, in [0, 1].

    Returns
    -------
    Scores of Score
        Per class for each label that occurs.

    Raises
    ------
    ValueError
        If the collar is negative, the share is outside [0, 1], or the recordings are invalid as in
        `segment_f1`.

    Notes
    -----
    Section 3.1.2 of the paper; `EventBasedMetrics` of sed_eval with its "optimal" matching.
    """
    if not collar_s >= 0 or not 0 <= length_share <= 1:
        raise ValueError("a collar is 0 or more, a share of a length in [0, 1]")
    labels = _labels(reference, estimated)
    per_class: dict[str, Score] = {}
    for label in labels:
        n_hits = n_reference = n_estimated = 0
        for name, events in reference.items():
            true = _times(events, label)
            found = _times(estimated.get(name, ()), label)
            n_reference += len(true)
            n_estimated += len(found)
            fits = np.abs(true[:, None, 0] - found[:, 0]) <= collar_s
            if with_offsets:
                tolerance_s = np.maximum(collar_s, length_share * (true[:, 1] - true[:, 0]))
                fits &= np.abs(true[:, None, 1] - found[:, 1]) <= tolerance_s[:, None]
            n_hits += _largest_matching(fits)
        per_class[label] = Score(n_hits, n_reference, n_estimated)
    # Only events of one label match, so the matching of all is that of each label.
    micro = Score(
        n_hits=sum(score.n_hits for score in per_class.values()),
        n_reference=sum(score.n_reference for score in per_class.values()),
        n_estimated=sum(score.n_estimated for score in per_class.values()),
    )
    return Scores(micro=micro, per_class=per_class)


def false_alarms_per_hour(estimated: Recordings, *, durations_s: Mapping[str, float]) -> float:
    """Return the detections per hour of background: n_events * 3600 / sum(durations_s).

    Parameters
    ----------
    estimated
        The detected events of any label; each counts once.
    durations_s
        The length of every background recording, including those without detections.

    Raises
    ------
    ValueError
        If the total length is 0, or a recording is missing from ``durations_s``.
    """
    total_s = math.fsum(durations_s.values())
    if not total_s > 0:
        raise ValueError("a rate needs recordings with a length")
    refuse_strangers(estimated, durations_s)
    return sum(len(events) for events in estimated.values()) * 3600 / total_s


def _labels(reference: Recordings, estimated: Recordings) -> list[str]:
    """Return the labels that occur, sorted, after validating the events."""
    refuse_strangers(estimated, reference)
    events = [
        e for recordings in (reference, estimated) for own in recordings.values() for e in own
    ]
    refuse_nonsense(events)
    return sorted({event.label for event in events})


def _of_one_label(recordings: Recordings) -> Recordings:
    return {
        name: [event._replace(label="") for event in events] for name, events in recordings.items()
    }


def _active(
    events: Sequence[LabelledEvent], labels: Sequence[str], *, n_segments: int, segment_s: float
) -> NDArray[np.bool_]:
    """Return which labels are active in each segment [shape=(n_segments, n_labels)]."""
    active = np.zeros((n_segments, len(labels)), dtype=np.bool_)
    for event in events:
        first, stop = math.floor(event.start_s / segment_s), math.ceil(event.end_s / segment_s)
        active[first:stop, labels.index(event.label)] = True
    return active


def _times(events: Sequence[LabelledEvent], label: str) -> NDArray[np.float64]:
    """Return starts and ends of the events of one label [shape=(n_events, 2)]."""
    times = [(event.start_s, event.end_s) for event in events if event.label == label]
    return np.array(times, dtype=np.float64).reshape(-1, 2)


def _largest_matching(fits: NDArray[np.bool_]) -> int:
    """Return the size of the largest matching of rows and columns (Hopcroft-Karp)."""
    if not fits.any():
        return 0
    return int((maximum_bipartite_matching(csr_array(fits)) >= 0).sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
