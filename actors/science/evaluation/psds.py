"""The polyphonic sound detection score (PSDS): a detector's quality over all its thresholds.

After Bilen, Ferroni, Tuveri, Azcarreta and Krstulović, "A framework for the robust evaluation of
sound event detection", ICASSP 2020, arXiv:1910.08440; psds_eval 0.5.3 is their implementation, and
gives the same scores except in two cases. It does not count a detection that is entirely after the
end of its recording; the paper's false positives are all detections outside the tolerance. And it
scores a single class 0, since the mean over no other class is NaN; here a single class has no
cross-triggers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.science.evaluation import labelled_events
from actors.science.evaluation.labelled_events import LabelledEvent, Recordings

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Criteria of a detection, and costs of errors.

    Attributes
    ----------
    dtc
        Detection tolerance criterion, in (0, 1]: the minimum share of a detection inside true
        events of its class. A detection below it is a false positive.
    gtc
        Ground truth intersection criterion, in (0, 1]: the minimum share of a true event that is
        covered by detections of its class that meet ``dtc``, for a true positive.
    cttc
        Cross-trigger tolerance criterion, in (0, 1]: the minimum share of a false positive inside
        true events of another class that makes it a cross-trigger of that class.
    alpha_ct
        Cost of a cross-trigger in addition to that of a false positive, in [0, 1].
    alpha_st
        Cost of the spread between classes, 0 or more.
    max_efpr_per_hour
        Maximum effective false positive rate of the evaluation.
    """

    dtc: float
    gtc: float
    cttc: float
    alpha_ct: float
    alpha_st: float
    max_efpr_per_hour: float

    def __post_init__(self) -> None:
        if not all(0 < share <= 1 for share in (self.dtc, self.gtc, self.cttc)):
            raise ValueError("criteria lie in (0, 1]")
        if not (0 <= self.alpha_ct <= 1 and self.alpha_st >= 0 and self.max_efpr_per_hour > 0):
            raise ValueError("alpha_ct in [0, 1], alpha_st 0 or more, a positive rate")


#: Scenario 1 of DCASE task 4 since 2021: fast reaction and precise localisation. Cross-triggers
#: have no cost, so their criterion does not matter.
DCASE_1 = Scenario(dtc=0.7, gtc=0.7, cttc=0.3, alpha_ct=0.0, alpha_st=1.0, max_efpr_per_hour=100.0)

#: Scenario 2: times matter little, confusion of classes matters much.
DCASE_2 = Scenario(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5, alpha_st=1.0, max_efpr_per_hour=100.0)


@dataclass(frozen=True, eq=False, slots=True)
class Psds:
    """The score in [0, 1], and the curve whose area it is.

    Attributes
    ----------
    value
        The score.
    efpr_per_hour : numpy.ndarray [shape=(n_steps,)]
        Effective false positives per hour, ascending from 0.
    effective_tpr : numpy.ndarray [shape=(n_steps,)]
        The effective true positive rate from that rate on, up to the next.
    """

    value: float
    efpr_per_hour: Array
    effective_tpr: Array


def psds(
    reference: Recordings,
    operating_points: Iterable[Recordings],
    *,
    durations_s: Mapping[str, float],
    scenario: Scenario = DCASE_1,
) -> Psds:
    r"""Return the normalised area under the effective ROC curve of a detector.

    For each operating point and class :math:`c` of the reference, with :math:`T` hours of
    recordings and :math:`T_k` hours of true events of class :math:`k`:

    .. math::

        TPR_c = TP_c / n_c, \quad
        eFPR_c = \frac{FP_c}{T}
            + \frac{\alpha_{CT}}{|C| - 1} \sum_{k \ne c} \frac{CT_{c,k}}{T_k}

    :math:`TPR_c(e)` is the best TPR of class :math:`c` at any operating point whose eFPR is at most
    :math:`e`, and 0 if there is none. With mean and (population) standard deviation over classes,

    .. math::

        PSDS = \frac{1}{e_{max}} \int_0^{e_{max}}
            \max(0, \mu_{TPR}(e) - \alpha_{ST} \, \sigma_{TPR}(e)) \, de

    Parameters
    ----------
    reference
        The true events of every recording.
    operating_points
        The detected events at each threshold; may be a generator. 50 thresholds are usual; with few
        thresholds the score is too low.
    durations_s
        The length of each recording.
    scenario
        Criteria and weights.

    Returns
    -------
    Psds

    Raises
    ------
    ValueError
        If there are no true events, a recording has no length, events of one label overlap in a
        recording, an event starts before 0 or ends before it starts, or a recording is missing from
        ``reference``.

    Notes
    -----
    Events of zero length are ignored. So are detections of a label that does not occur in the
    reference: the rates of such a class are undefined.
    """
    true = {name: _checked(events) for name, events in reference.items()}
    classes = sorted({event.label for events in true.values() for event in events})
    if not classes:
        raise ValueError("without true events there is nothing to detect")
    if not all(durations_s.get(name, 0.0) > 0 for name in reference):
        raise ValueError("each recording has a length")
    n_true, hours_true = np.zeros((2, len(classes)))
    for event in (event for events in true.values() for event in events):
        n_true[classes.index(event.label)] += 1
        hours_true[classes.index(event.label)] += (event.end_s - event.start_s) / 3600
    hours = math.fsum(durations_s[name] for name in reference) / 3600
    # Every curve contains the detector without any detections.
    tpr, efpr = [np.zeros(len(classes))], [np.zeros(len(classes))]
    for estimated in operating_points:
        n_hits, n_false, n_crossed = _count(true, estimated, classes=classes, scenario=scenario)
        crossed_per_hour = (n_crossed / hours_true).sum(axis=1) / max(len(classes) - 1, 1)
        tpr.append(n_hits / n_true)
        efpr.append(n_false / hours + scenario.alpha_ct * crossed_per_hour)
    return _area(np.array(tpr), np.array(efpr), scenario=scenario)


def _checked(events: Sequence[LabelledEvent]) -> list[LabelledEvent]:
    """Return the events of non-zero length."""
    labelled_events.refuse_nonsense(events)
    lasting = [event for event in events if event.end_s > event.start_s]
    # Overlapping events would be covered twice.
    for one, other in pairwise(sorted(lasting, key=lambda event: (event.label, event.start_s))):
        if one.label == other.label and other.start_s < one.end_s:
            raise ValueError(f"events of {one.label!r} overlap")
    return lasting


def _count(
    reference: Mapping[str, Sequence[LabelledEvent]],
    estimated: Recordings,
    *,
    classes: Sequence[str],
    scenario: Scenario,
) -> tuple[Array, Array, Array]:
    """Count true and false positives [(n_classes,)] and cross-triggers [(n_classes, n_classes)]."""
    labelled_events.refuse_strangers(estimated, reference)
    n_classes = len(classes)
    n_hits, n_false = np.zeros((2, n_classes))
    n_crossed = np.zeros((n_classes, n_classes))
    for name, events in estimated.items():
        found = [event for event in _checked(events) if event.label in classes]
        of_found, found_s = _arrays(found, classes)
        of_true, true_s = _arrays(reference[name], classes)
        starts_s = np.maximum(found_s[:, None, 0], true_s[:, 0])
        shared_s = np.maximum(np.minimum(found_s[:, None, 1], true_s[:, 1]) - starts_s, 0.0)
        # The share of each detection inside the true events of each class.
        share = shared_s / np.diff(found_s) @ np.eye(n_classes)[of_true]
        is_tolerated = share[np.arange(len(found)), of_found] >= scenario.dtc
        covers = is_tolerated[:, None] & (of_found[:, None] == of_true)
        covered = (shared_s * covers / np.diff(true_s)[:, 0]).sum(axis=0)
        is_cross = ~is_tolerated[:, None] & (share >= scenario.cttc)
        is_cross[np.arange(len(found)), of_found] = False
        n_hits += np.bincount(of_true[covered >= scenario.gtc], minlength=n_classes)
        n_false += np.bincount(of_found[~is_tolerated], minlength=n_classes)
        np.add.at(n_crossed, of_found, is_cross)
    return n_hits, n_false, n_crossed


def _arrays(
    events: Sequence[LabelledEvent], classes: Sequence[str]
) -> tuple[NDArray[np.int64], Array]:
    """Return class indices [shape=(n_events,)], and starts and ends [shape=(n_events, 2)]."""
    of_class = np.array([classes.index(event.label) for event in events], dtype=np.int64)
    times_s = np.array([(event.start_s, event.end_s) for event in events], dtype=np.float64)
    return of_class, times_s.reshape(-1, 2)


def _area(tpr: Array, efpr: Array, *, scenario: Scenario) -> Psds:
    """Combine the curves of the classes and integrate [shape=(n_points, n_classes)].

    The curve is a staircase between points, without interpolation: no detector was measured there.
    """
    steps = np.unique(efpr)
    curves = []
    for own_tpr, own_efpr in zip(tpr.T, efpr.T, strict=True):
        order = np.argsort(own_efpr, kind="stable")
        best = np.maximum.accumulate(own_tpr[order])
        curves.append(best[np.searchsorted(own_efpr[order], steps, side="right") - 1])
    effective = np.mean(curves, axis=0) - scenario.alpha_st * np.std(curves, axis=0)
    effective = np.maximum(effective, 0.0)
    widths = np.diff(np.minimum(np.append(steps, math.inf), scenario.max_efpr_per_hour))
    area = float((widths * effective).sum()) / scenario.max_efpr_per_hour
    return Psds(value=area, efpr_per_hour=steps, effective_tpr=effective)
