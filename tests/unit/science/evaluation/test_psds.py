"""The score over all thresholds: agreement with psds_eval, and small cases by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.science.evaluation.labelled_events import LabelledEvent, Recordings
from actors.science.evaluation.psds import DCASE_1, DCASE_2, Scenario, psds
from tests.support.metering import DATA

CASES = json.loads((DATA / "sound_event_metrics.json").read_text())

HOUR = {"a": 3600.0}
TRUE = {"a": [LabelledEvent(0.0, 10.0, "bark"), LabelledEvent(20.0, 40.0, "rain")]}


def recordings(plain: dict[str, list[tuple[float, float, str]]]) -> Recordings:
    return {name: [LabelledEvent(*event) for event in events] for name, events in plain.items()}


def alarms(n: int, label: str) -> list[LabelledEvent]:
    """Return false positives that overlap nothing."""
    return [LabelledEvent(100.0 + 2 * i, 101.0 + 2 * i, label) for i in range(n)]


@pytest.mark.parametrize("case", CASES["psds_eval"])
def test_scores_are_those_of_psds_eval(case: dict[str, Any]) -> None:
    points = [recordings(point) for point in case["operating_points"]]
    for answer in case["scores"]:
        score = psds(
            recordings(case["reference"]),
            points,
            durations_s=case["durations_s"],
            scenario=Scenario(**answer["scenario"]),
        )
        assert score.value == pytest.approx(answer["psds"], abs=1e-12)


@pytest.mark.parametrize("scenario", [DCASE_1, DCASE_2])
def test_the_truth_scores_1_and_nothing_0(scenario: Scenario) -> None:
    assert psds(TRUE, [TRUE], durations_s=HOUR, scenario=scenario).value == 1.0
    assert psds(TRUE, [{}], durations_s=HOUR, scenario=scenario).value == 0.0
    assert psds(TRUE, [], durations_s=HOUR, scenario=scenario).value == 0.0


def test_the_area_begins_where_the_events_are_found() -> None:
    # Both classes are detected at 30 false positives per hour: nothing below, everything above.
    found = {"a": [*TRUE["a"], *alarms(30, "bark"), *alarms(30, "rain")]}
    score = psds(TRUE, [found], durations_s=HOUR)
    assert score.value == pytest.approx(0.7)
    assert score.efpr_per_hour.tolist() == [0.0, 30.0]
    assert score.effective_tpr.tolist() == [0.0, 1.0]


def test_a_spread_between_classes_costs() -> None:
    found = {"a": TRUE["a"][:1]}
    # TPR 1 and 0: mean 0.5, standard deviation 0.5.
    for alpha_st, expected in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0), (2.0, 0.0)):
        scenario = replace(DCASE_1, alpha_st=alpha_st)
        value = psds(TRUE, [found], durations_s=HOUR, scenario=scenario).value
        assert value == pytest.approx(expected)


def test_a_cross_trigger_costs_more_than_a_false_positive() -> None:
    # One bark among 20 s of rain: 1 per hour, and 1 per 20 s = 180 per hour of rain.
    found = {"a": [*TRUE["a"], LabelledEvent(25.0, 26.0, "bark")]}
    scenario = replace(DCASE_2, alpha_st=0.0, max_efpr_per_hour=1000.0)
    score = psds(TRUE, [found], durations_s=HOUR, scenario=scenario)
    assert score.efpr_per_hour.tolist() == pytest.approx([0.0, 1 + 0.5 * 180])
    assert score.value == pytest.approx((0.5 * 91 + 1.0 * 909) / 1000)


def test_criteria_are_shares_of_events() -> None:
    # 6 of 10 s are in the bark, and cover 6 of its 10 s; then a second one covers the rest.
    scenario = replace(DCASE_1, dtc=0.6, gtc=0.6, alpha_st=0.0)
    true = {"a": TRUE["a"][:1]}
    found = {"a": [LabelledEvent(4.0, 14.0, "bark")]}
    assert psds(true, [found], durations_s=HOUR, scenario=scenario).value == 1.0
    for stricter in (replace(scenario, dtc=0.61), replace(scenario, gtc=0.61)):
        assert psds(true, [found], durations_s=HOUR, scenario=stricter).value == 0.0
    pieces = {"a": [*found["a"], LabelledEvent(0.0, 4.0, "bark")]}
    whole = replace(scenario, gtc=1.0)
    assert psds(true, [pieces], durations_s=HOUR, scenario=whole).value == 1.0


def test_more_operating_points_never_score_less() -> None:
    scenario = replace(DCASE_2, alpha_st=0.0)
    rng = np.random.default_rng(0)
    points = []
    for _ in range(6):
        kept = [event for event in TRUE["a"] if rng.random() < 0.5]
        points.append({"a": [*kept, *alarms(int(rng.integers(0, 60)), "rain")]})
    values = [psds(TRUE, points[:n], durations_s=HOUR, scenario=scenario).value for n in range(7)]
    assert values == sorted(values)
    assert 0.0 < values[-1] <= 1.0
    turned = psds(TRUE, reversed(points), durations_s=HOUR, scenario=scenario)
    assert turned.value == pytest.approx(values[-1])


def test_a_detection_after_the_end_is_a_false_positive() -> None:
    found = {"a": [*TRUE["a"], LabelledEvent(4000.0, 4001.0, "bark")]}
    assert psds(TRUE, [found], durations_s=HOUR).efpr_per_hour.tolist() == [0.0, 1.0]


def test_events_without_a_length_and_unknown_labels_are_left_out() -> None:
    instant, horn = LabelledEvent(50.0, 50.0, "bark"), LabelledEvent(60.0, 61.0, "horn")
    true, found = {"a": [*TRUE["a"], instant]}, {"a": [*TRUE["a"], instant, horn]}
    assert psds(true, [found], durations_s=HOUR).value == 1.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="true events"):
        psds({"a": []}, [{}], durations_s=HOUR)
    with pytest.raises(ValueError, match="length"):
        psds(TRUE, [{}], durations_s={})
    with pytest.raises(ValueError, match="without a reference"):
        psds(TRUE, [{"b": []}], durations_s=HOUR)
    with pytest.raises(ValueError, match="starts"):
        psds(TRUE, [{"a": [LabelledEvent(2.0, 1.0, "bark")]}], durations_s=HOUR)
    twice = {"a": [LabelledEvent(0.0, 2.0, "bark"), LabelledEvent(1.0, 3.0, "bark")]}
    with pytest.raises(ValueError, match="overlap"):
        psds(TRUE, [twice], durations_s=HOUR)
    with pytest.raises(ValueError, match="overlap"):
        psds(twice, [TRUE], durations_s=HOUR)
    with pytest.raises(ValueError, match="criteria"):
        replace(DCASE_1, dtc=0.0)
    with pytest.raises(ValueError, match="alpha_ct"):
        replace(DCASE_1, alpha_ct=-0.1)
