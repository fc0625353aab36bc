"""Segments and events: agreement with sed_eval, and invariants for any events."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.evaluation.labelled_events import LabelledEvent, Recordings
from actors.science.evaluation.metrics import (
    Score,
    Scores,
    SegmentScore,
    activity_f1,
    event_f1,
    false_alarms_per_hour,
    segment_f1,
)
from tests.support.metering import DATA

CASES = json.loads((DATA / "sound_event_metrics.json").read_text())

#: Multiples of an eighth, so that sums and differences are exact.
_times = st.integers(0, 80).map(lambda n: n / 8)
_event = st.builds(
    lambda start_s, length_s, label: LabelledEvent(start_s, start_s + length_s, label),
    _times,
    st.integers(1, 40).map(lambda n: n / 8),
    st.sampled_from(["bark", "rain", "horn"]),
)
_events = st.lists(_event, max_size=6)
_pair = st.tuples(_events, _events)
_pairs = st.lists(_pair, min_size=1, max_size=3)


def recordings(plain: dict[str, list[tuple[float, float, str]]]) -> Recordings:
    return {name: [LabelledEvent(*event) for event in events] for name, events in plain.items()}


def split(pairs: list[tuple[list[LabelledEvent], list[LabelledEvent]]]) -> list[Recordings]:
    return [{str(n): pair[side] for n, pair in enumerate(pairs)} for side in (0, 1)]


def agrees(score: Score, answer: dict[str, Any]) -> None:
    counts = (score.n_hits, score.n_reference, score.n_estimated)
    assert counts == (answer["n_hits"], answer["n_reference"], answer["n_estimated"])
    expected = {key: math.nan if value is None else value for key, value in answer.items()}
    # The two departures from it that the module documents.
    if min(counts[1:]) == 0 < max(counts[1:]):
        expected["f1"] = 0.0
    if isinstance(score, SegmentScore):
        error_rate = expected["error_rate"] if score.n_reference else math.nan
        assert score.error_rate == pytest.approx(error_rate, nan_ok=True)
    for key in ("precision", "recall", "f1"):
        assert getattr(score, key) == pytest.approx(expected[key], nan_ok=True), key


def all_agree(scores: Scores[Any], answers: dict[str, Any]) -> None:
    agrees(scores.micro, answers["micro"])
    assert list(scores.per_class) == list(answers["per_class"])
    for label, answer in answers["per_class"].items():
        agrees(scores.per_class[label], answer)


@pytest.mark.parametrize("case", CASES["sed_eval"], ids=lambda case: case["about"])
def test_scores_are_those_of_sed_eval(case: dict[str, Any]) -> None:
    true, found = recordings(case["reference"]), recordings(case["estimated"])
    durations_s, segment_s = case["durations_s"], case["segment_s"]
    all_agree(
        segment_f1(true, found, durations_s=durations_s, segment_s=segment_s), case["segments"]
    )
    all_agree(segment_f1(true, found, segment_s=segment_s), case["segments_to_last_event"])
    all_agree(event_f1(true, found, with_offsets=False), case["onsets"])
    all_agree(event_f1(true, found), case["onsets_and_offsets"])
    all_agree(event_f1(true, found, collar_s=0.2, length_share=0.2), case["narrow"])


def test_segments_are_counted_as_in_the_paper() -> None:
    # Segments: bark | bark, rain | rain | nothing, against bark | horn | rain, horn | horn.
    true = recordings({"a": [(0.0, 2.0, "bark"), (1.0, 3.0, "rain")]})
    found = recordings({"a": [(0.0, 1.0, "bark"), (2.0, 3.0, "rain"), (1.0, 4.0, "horn")]})
    micro = segment_f1(true, found).micro
    # One substitution and one deletion in the second, an insertion in each of the last two.
    assert micro == SegmentScore(n_hits=2, n_reference=4, n_estimated=5, n_errors=4)
    assert micro.f1 == pytest.approx(4 / 9)
    assert micro.error_rate == 1.0


def test_an_event_fits_one_event_only() -> None:
    true = recordings({"a": [(1.0, 2.0, "bark"), (1.5, 2.5, "bark")]})
    found = recordings({"a": [(1.25, 2.25, "bark")]})
    assert event_f1(true, found).micro == Score(n_hits=1, n_reference=2, n_estimated=1)


def test_a_long_event_has_a_wide_end() -> None:
    true = recordings({"a": [(0.0, 10.0, "rain")]})
    found = recordings({"a": [(0.0, 5.0, "rain")]})
    assert event_f1(true, found).micro.f1 == 1.0
    assert event_f1(true, found, length_share=0.49).micro.f1 == 0.0
    assert event_f1(true, found, length_share=0.0, with_offsets=False).micro.f1 == 1.0


@given(pairs=_pairs)
def test_a_perfect_estimate_is_perfect(pairs: list[tuple[list[LabelledEvent], Any]]) -> None:
    true = split(pairs)[0]
    if any(true.values()):
        segments = segment_f1(true, true)
        assert segments.micro.f1 == activity_f1(true, true).f1 == event_f1(true, true).micro.f1 == 1
        assert segments.micro.error_rate == 0
        assert all(score.f1 == 1 for score in segments.per_class.values())


@given(pairs=_pairs, random=st.randoms(use_true_random=False))
def test_the_order_does_not_matter(pairs: list[Any], random: Any) -> None:
    true, found = split(pairs)
    shuffled: list[Recordings] = []
    for side in (true, found):
        items = [(name, random.sample(events, len(events))) for name, events in side.items()]
        shuffled.append(dict(random.sample(items, len(items))))
    assert segment_f1(*shuffled) == segment_f1(true, found)
    assert event_f1(*shuffled) == event_f1(true, found)


@given(pairs=_pairs)
def test_swapping_the_sides_swaps_precision_and_recall(pairs: list[Any]) -> None:
    true, found = split(pairs)
    both: list[tuple[Score, Score]] = [
        (segment_f1(true, found).micro, segment_f1(found, true).micro),
        (activity_f1(true, found), activity_f1(found, true)),
        # The tolerance of an end depends on the true event, so only starts are symmetric.
        (
            event_f1(true, found, with_offsets=False).micro,
            event_f1(found, true, with_offsets=False).micro,
        ),
    ]
    for one, other in both:
        assert one.precision == pytest.approx(other.recall, nan_ok=True)
        assert one.recall == pytest.approx(other.precision, nan_ok=True)
        assert one.f1 == pytest.approx(other.f1, nan_ok=True)


@given(pairs=_pairs)
def test_scores_are_bounded_and_add_up(pairs: list[Any]) -> None:
    true, found = split(pairs)
    segments, events = segment_f1(true, found), event_f1(true, found)
    for scores in (segments, events):
        score = scores.micro
        assert score.n_hits <= min(score.n_reference, score.n_estimated)
        assert score.n_hits == sum(own.n_hits for own in scores.per_class.values())
        assert math.isnan(score.f1) or 0 <= score.f1 <= 1
    micro = segments.micro
    n_missed, n_false = micro.n_reference - micro.n_hits, micro.n_estimated - micro.n_hits
    # A substitution is both a miss and a false alarm.
    assert max(n_missed, n_false) <= micro.n_errors <= n_missed + n_false
    # Fewer events match if the ends must match too.
    assert events.micro.n_hits <= event_f1(true, found, with_offsets=False).micro.n_hits


@given(pair=_pair)
def test_activity_ignores_labels_and_overlap(
    pair: tuple[list[LabelledEvent], list[LabelledEvent]],
) -> None:
    busy = [
        {n for n in range(16) for e in own if e.start_s < n + 1 and e.end_s > n} for own in pair
    ]
    true, found = split([pair])
    assert activity_f1(true, found) == SegmentScore(
        n_hits=len(busy[0] & busy[1]),
        n_reference=len(busy[0]),
        n_estimated=len(busy[1]),
        n_errors=len(busy[0] ^ busy[1]),
    )


def test_a_recording_where_nothing_was_found_may_be_left_out() -> None:
    true = recordings({"a": [(0.0, 1.0, "bark")], "b": [(0.0, 1.0, "bark")]})
    found = recordings({"a": [(0.0, 1.0, "bark")]})
    assert segment_f1(true, found).micro.recall == 0.5
    assert event_f1(true, found).micro.recall == 0.5


def test_false_alarms_are_counted_per_hour() -> None:
    found = recordings({"a": [(0.0, 1.0, "bark"), (0.5, 2.0, "rain")], "b": [(3.0, 4.0, "bark")]})
    durations_s = {"a": 600.0, "b": 600.0, "c": 600.0}
    assert false_alarms_per_hour(found, durations_s=durations_s) == 6.0
    assert false_alarms_per_hour({}, durations_s=durations_s) == 0.0


@pytest.mark.parametrize("event", [(-0.5, 1.0), (2.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_events_that_make_no_sense_are_refused(event: tuple[float, float]) -> None:
    bad = {"a": [LabelledEvent(*event, "bark")]}
    for one, other in ((bad, {}), ({"a": []}, bad)):
        with pytest.raises(ValueError, match="starts"):
            segment_f1(one, other)
        with pytest.raises(ValueError, match="starts"):
            event_f1(one, other)


def test_what_does_not_fit_together_is_refused() -> None:
    found = recordings({"b": [(0.0, 1.0, "bark")]})
    for measure in (segment_f1, event_f1, activity_f1):
        with pytest.raises(ValueError, match="without a reference"):
            measure({"a": []}, found)
    with pytest.raises(ValueError, match="without a reference"):
        false_alarms_per_hour(found, durations_s={"a": 1.0})
    with pytest.raises(ValueError, match="length"):
        false_alarms_per_hour({}, durations_s={})
    with pytest.raises(ValueError, match="how long"):
        segment_f1({"a": []}, {}, durations_s={})
    with pytest.raises(ValueError, match="positive"):
        segment_f1({"a": []}, {}, segment_s=0.0)
    with pytest.raises(ValueError, match="collar"):
        event_f1({"a": []}, {}, collar_s=-1.0)
