"""From scores to events: the path through the classes, gaps, edges, levels, the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.detection import silence
from actors.science.detection.chunks import STEP_S
from actors.science.detection.decoding import Segment, quiet_windows
from actors.science.detection.segmentation import (
    LONGEST_GAP_S,
    SHORTEST_S,
    THRESHOLD,
    Named,
    likeliest,
    merge,
)
from actors.science.levels.levels import STEPS_PER_S, LevelHistory
from actors.science.types import BACKGROUND, UNCLASSIFIED, Event, TypeProbability

CLASSES = (BACKGROUND, "bark", "rain", "siren", "engine", "wind", "horn")
RATE_HZ = 8_000

#: How far the scores may extend beyond a sound.
BLUR_S = 0.6

#: Class and its probability for each letter; the others share the rest.
LETTERS = {
    ".": (0, 0.9),
    "b": (1, 0.9),
    "r": (2, 0.9),
    "B": (1, 0.999),
    "~": (0, 0.6),
    "-": (0, 0.7),
}


def scores(pattern: str) -> NDArray[np.float32]:
    """Return one row of scores per letter."""
    rows = np.zeros((len(pattern), len(CLASSES)), dtype=np.float32)
    for row, letter in zip(rows, pattern, strict=True):
        column, sure = LETTERS[letter]
        row[:] = (1 - sure) / (len(CLASSES) - 1)
        row[column] = sure
    return rows


def levels(level_db: Sequence[float], *, duration_s: float | None = None) -> LevelHistory:
    """Return levels with one value per frame."""
    mean_square = np.power(10.0, np.array(level_db) / 10).astype(np.float32)
    seconds = len(level_db) * STEP_S if duration_s is None else duration_s
    n_frames = round(seconds * RATE_HZ)
    mean_square = np.repeat(mean_square, round(STEP_S * STEPS_PER_S))
    mean_square = mean_square[: -(-n_frames * STEPS_PER_S // RATE_HZ)]
    return LevelHistory(RATE_HZ, n_frames, mean_square, 2 * mean_square)


def heard(
    rows: NDArray[np.float32],
    *,
    level_db: float | Sequence[float] = -30.0,
    duration_s: float | None = None,
    shares: Sequence[float] | None = None,
    thresholds: dict[str, float] | None = None,
    lead_s: float = 0.0,
) -> list[Event]:
    """Return the events of scores; segments get ``shares``, by default the mean of their scores."""

    def classify(first: int, stop: int) -> Named:
        assert 0 <= first < stop <= len(rows)
        found = rows[first:stop].mean(axis=0) if shares is None else np.array(shares)
        return likeliest(found, classes=CLASSES, least=thresholds or {})

    series = [level_db] * len(rows) if isinstance(level_db, float) else level_db
    return merge(
        rows,
        classes=CLASSES,
        classify=classify,
        levels=levels(series, duration_s=duration_s),
        blur_s=BLUR_S,
        lead_s=lead_s,
    )


def times(found: Sequence[Event]) -> list[tuple[str, float, float]]:
    return [(event.noise_type, event.start_s, event.end_s) for event in found]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("." * 20, []),
        ("b" * 20, [("bark", 0.0, 2.0)]),
        ("..." + "b" * 8 + "....", [("bark", 0.3, 1.1)]),
        ("b" * 8 + "r" * 8, [("bark", 0.0, 0.8), ("rain", 0.8, 1.6)]),
        ("b" * 8 + "." * 3 + "r" * 8, [("bark", 0.0, 0.8), ("rain", 1.1, 1.9)]),
        ("b" * 8 + "r" * 8 + "b" * 8, [("bark", 0.0, 0.8), ("rain", 0.8, 1.6), ("bark", 1.6, 2.4)]),
    ],
)
def test_stretches_become_events(pattern: str, expected: list[tuple[str, float, float]]) -> None:
    assert times(heard(scores(pattern))) == expected


@given(at=st.integers(1, 18), odd=st.sampled_from(".r"))
def test_a_single_odd_step_within_a_sound_is_ignored(at: int, odd: str) -> None:
    pattern = "b" * at + odd + "b" * (19 - at)
    assert times(heard(scores(pattern))) == [("bark", 0.0, 2.0)]


@given(at=st.integers(0, 19))
def test_a_single_odd_step_within_silence_is_ignored(at: int) -> None:
    assert heard(scores("." * at + "b" + "." * (19 - at))) == []


# A single frame of silence at the very start is part of the sound: nothing precedes it.
@given(lead=st.integers(0, 200).filter(lambda lead: lead != 1), gap=st.integers(1, 9))
def test_brief_gaps_within_one_type_are_closed_wherever_they_lie(lead: int, gap: int) -> None:
    found = heard(scores("." * lead + "b" * 10 + "." * gap + "b" * 10))
    is_brief = gap < round(LONGEST_GAP_S / STEP_S)
    assert len(found) == (1 if is_brief else 2)
    assert found[0].start_s == pytest.approx(lead * STEP_S)
    assert found[-1].end_s == pytest.approx((lead + gap + 20) * STEP_S)


def test_a_joined_event_is_as_sure_as_its_surest_part() -> None:
    (event,) = heard(scores("b" * 8 + "...." + "B" * 8))
    assert event.confidence == pytest.approx(0.999)
    assert event.candidates[0].score == pytest.approx(0.999)
    assert (event.start_s, event.end_s) == (0.0, 2.0)


@given(n_more=st.floats(0.01, 1.0))
def test_an_event_ends_with_the_recording(n_more: float) -> None:
    duration_s = 1.9 + n_more * STEP_S
    (event,) = heard(scores("." * 10 + "b" * 10), duration_s=duration_s)
    assert event.start_s == 1.0
    assert event.end_s == pytest.approx(duration_s, abs=1 / RATE_HZ)
    assert event.end_s <= round(duration_s * RATE_HZ) / RATE_HZ


@pytest.mark.parametrize(
    ("n_steps", "duration_s", "expected"), [(1, 3.0, 0), (2, 3.0, 1), (2, 1.13, 0), (3, 1.23, 1)]
)
def test_events_that_are_too_short_are_none(n_steps: int, duration_s: float, expected: int) -> None:
    """The last two recordings end within the event."""
    pattern = "." * 10 + "B" * n_steps + "." * 17
    pattern = pattern[: int(np.ceil(duration_s / STEP_S))]
    assert len(heard(scores(pattern), duration_s=duration_s)) == expected


@pytest.mark.parametrize(
    ("confidence", "thresholds", "is_event"),
    [
        (THRESHOLD + 0.01, {}, True),
        (THRESHOLD - 0.01, {}, False),
        (0.45, {"bark": 0.5}, False),
        (0.55, {"bark": 0.5}, True),
        (0.45, {"rain": 0.5}, True),
        (0.3, {"bark": 0.25}, True),
    ],
)
def test_each_class_has_its_threshold(
    confidence: float, thresholds: dict[str, float], is_event: bool
) -> None:
    shares = np.full(len(CLASSES), (1 - confidence) / (len(CLASSES) - 1))
    shares[1] = confidence
    found = heard(scores("b" * 10), shares=shares.tolist(), thresholds=thresholds)
    assert bool(found) == is_event
    assert all(event.confidence == pytest.approx(confidence) for event in found)


def test_an_event_has_its_levels_and_its_candidates_in_order() -> None:
    shares = [0.1, 0.05, 0.4, 0.2, 0.15, 0.07, 0.03]
    (event,) = heard(scores("b" * 10), shares=shares)
    assert event.noise_type == "rain"
    assert event.confidence == pytest.approx(0.4)
    in_order = ["rain", "siren", "engine", "wind", "bark"]
    assert [each.noise_type for each in event.candidates] == in_order
    assert [each.score for each in event.candidates] == pytest.approx([0.4, 0.2, 0.15, 0.07, 0.05])
    assert event.laeq_db == pytest.approx(-30.0, abs=0.01)
    assert event.lafmax_db == pytest.approx(-26.99, abs=0.01)


def test_what_the_second_look_takes_for_background_is_no_event() -> None:
    assert heard(scores("b" * 10), shares=[0.5, 0.4, 0.1, 0, 0, 0, 0]) == []


@pytest.mark.parametrize(("letter", "is_kept"), [("~", True), ("-", False)])
def test_a_sound_is_let_go_later_than_it_is_taken_up(letter: str, is_kept: bool) -> None:
    """Six faint frames on either side belong to the sound; alone they would not be an event."""
    tail = letter * 6
    (event,) = heard(scores("...." + tail + "b" * 10 + tail + "...."), shares=scores("b")[0])
    n_more = 6 if is_kept else 0
    assert event.start_s == pytest.approx((10 - n_more) * STEP_S)
    assert event.end_s == pytest.approx((20 + n_more) * STEP_S)
    assert heard(scores("...." + tail * 3 + "....")) == []


@given(lead=st.integers(0, 12), trail=st.integers(0, 12))
def test_edges_are_drawn_in_to_the_level_but_not_far(lead: int, trail: int) -> None:
    """Scores begin some frames before the sound and end some after it."""
    level_db = [-60.0] * 30 + [-30.0] * 20 + [-60.0] * 50
    pattern = "." * (30 - lead) + "b" * (20 + lead + trail) + "." * (50 - trail)
    (event,) = heard(scores(pattern), level_db=level_db)
    most = round(BLUR_S / STEP_S)
    assert event.start_s == pytest.approx((30 - max(lead - most, 0)) * STEP_S)
    assert event.end_s == pytest.approx((50 + max(trail - most, 0)) * STEP_S)


def test_edges_stay_where_the_level_tells_nothing() -> None:
    level_db = [-40.0] * 30 + [-38.0] * 20 + [-40.0] * 50
    (event,) = heard(scores("." * 26 + "b" * 28 + "." * 46), level_db=level_db)
    assert (event.start_s, event.end_s) == (2.6, 5.4)


@pytest.mark.parametrize("level_db", [-95.0, -300.0])
def test_silence_has_no_events(level_db: float) -> None:
    assert heard(scores("b" * 10 + "r" * 10), level_db=level_db) == []


def test_what_is_loud_and_heard_as_nothing_is_unclassified() -> None:
    level_db = [-60.0] * 30 + [-30.0] * 20 + [-60.0] * 50
    (event,) = heard(scores("." * 100), level_db=level_db)
    assert event.noise_type == UNCLASSIFIED
    assert event.candidates == ()
    assert event.start_s == pytest.approx(3.0, abs=0.1001)
    assert event.end_s == pytest.approx(5.0)
    assert event.confidence == pytest.approx(0.999, abs=1e-3)
    assert event.laeq_db is not None
    (named,) = heard(scores("." * 30 + "b" * 20 + "." * 50), level_db=level_db)
    assert named.noise_type == "bark"


def test_a_lost_span_makes_no_event() -> None:
    """Its scores are certain background, so sounds end where it begins."""
    lost = np.eye(1, len(CLASSES), dtype=np.float32).repeat(30, axis=0)
    rows = np.concatenate([scores("b" * 20), lost, scores("b" * 20)])
    assert times(heard(rows)) == [("bark", 0.0, 2.0), ("bark", 5.0, 7.0)]


segments = st.lists(
    st.tuples(
        st.integers(0, len(CLASSES) - 1),
        st.integers(1, 12),
        st.floats(0.2, 0.999),
        st.floats(-95.0, -5.0),
    ),
    min_size=1,
    max_size=15,
)


@given(parts=segments, seed=st.integers(0, 1_000), n_missing=st.integers(0, RATE_HZ // 10 - 1))
def test_events_keep_their_promises_whatever_the_scores(
    parts: list[tuple[int, int, float, float]], seed: int, n_missing: int
) -> None:
    rng = np.random.default_rng(seed)
    rows, level_db = [], []
    for column, n_steps, sure, loudness_db in parts:
        part = rng.dirichlet(np.ones(len(CLASSES)), n_steps) * (1 - sure)
        part[:, column] += sure
        rows.append(part)
        level_db += (loudness_db + rng.normal(0, 2, n_steps)).tolist()
    duration_s = len(level_db) * STEP_S - n_missing / RATE_HZ
    found = heard(np.concatenate(rows).astype(np.float32), level_db=level_db, duration_s=duration_s)
    for noise_type in {event.noise_type for event in found}:
        own = [event for event in found if event.noise_type == noise_type]
        assert all(before.end_s <= after.start_s for before, after in pairwise(own))
    for event in found:
        assert 0 <= event.start_s < event.end_s <= duration_s + 1e-9
        assert event.end_s - event.start_s >= SHORTEST_S - 1e-9
        assert 0 <= event.confidence <= 1
        assert event.noise_type != BACKGROUND
        assert event.laeq_db is not None
        assert event.laeq_db >= silence.QUIET_DB
        if event.noise_type != UNCLASSIFIED:
            assert event.candidates[0].noise_type == event.noise_type


@given(parts=segments, n_lead=st.integers(0, 40))
def test_silence_before_a_recording_moves_its_events(
    parts: list[tuple[int, int, float, float]], n_lead: int
) -> None:
    pattern = "".join(".br"[column % 3] * n_steps for column, n_steps, _, _ in parts)
    plain = heard(scores("." * 10 + pattern))
    moved = heard(scores("." * (10 + n_lead) + pattern))
    assert [event.noise_type for event in moved] == [event.noise_type for event in plain]
    for before, after in zip(plain, moved, strict=True):
        # Rounding may decide between two equally probable paths: a tolerance of one frame.
        assert after.start_s == pytest.approx(before.start_s + n_lead * STEP_S, abs=1.01 * STEP_S)
        assert after.end_s == pytest.approx(before.end_s + n_lead * STEP_S, abs=1.01 * STEP_S)


@given(n_lead=st.integers(0, 3_200), n_steps=st.one_of(st.just(0), st.integers(8, 20)))
def test_events_are_told_in_the_recordings_own_time(n_lead: int, n_steps: int) -> None:
    """Frames before the recording are silent, and no event begins there."""
    lead_s = n_lead / 16_000
    (event,) = heard(scores("." * n_steps + "b" * 10 + "." * 20), lead_s=lead_s)
    assert event.start_s == pytest.approx(max(n_steps * STEP_S - lead_s, 0.0), abs=1e-3)
    assert event.end_s == pytest.approx((n_steps + 10) * STEP_S - lead_s, abs=1e-3)


@pytest.mark.parametrize("shape", [(4, len(CLASSES) - 1), (len(CLASSES),)])
def test_scores_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="column"):
        heard(np.zeros(shape, dtype=np.float32))


def several(*answers: tuple[str, float]) -> Named:
    found = [TypeProbability(name, score) for name, score in answers]
    return Named(found, [*found, TypeProbability("wind", 0.1)])


def test_a_stretch_may_hold_several_types_at_once() -> None:
    found = merge(
        scores("." * 10 + "b" * 10 + "." * 10),
        classes=CLASSES,
        classify=lambda _first, _stop: several(("bark", 0.9), ("rain", 0.7)),
        levels=levels([-30.0] * 30),
        blur_s=BLUR_S,
    )
    assert times(found) == [("bark", 1.0, 2.0), ("rain", 1.0, 2.0)]
    assert [each.candidates[0].noise_type for each in found] == ["bark", "rain"]
    assert {each.noise_type for each in found[1].candidates} == {"bark", "rain", "wind"}


def test_what_sounds_on_below_another_sound_is_one_event() -> None:
    """Steady rain before, during and after a bark, which overlaps it."""
    rows = scores("." * 40 + "b" * 10 + "." * 40)
    found = merge(
        rows,
        classes=CLASSES,
        classify=lambda _first, _stop: several(("bark", 0.9), ("rain", 0.6)),
        classify_steady=lambda _first, _stop: several(("rain", 0.8)),
        levels=levels([-30.0] * 90),
        blur_s=BLUR_S,
    )
    assert times(found) == [("rain", 0.0, 9.0), ("bark", 4.0, 5.0)]
    assert found[0].confidence == 0.8


def test_what_sounds_in_a_part_of_a_stretch_is_an_event_beside_it() -> None:
    part = Segment(14, 18), TypeProbability("horn", 0.97)
    found = merge(
        scores("." * 10 + "b" * 20 + "." * 10),
        classes=CLASSES,
        classify=lambda _first, _stop: Named([TypeProbability("bark", 0.9)], [], [part]),
        levels=levels([-30.0] * 40),
        blur_s=BLUR_S,
    )
    assert times(found) == [("bark", 1.0, 3.0), ("horn", 1.4, 1.8)]
    assert found[1].confidence == 0.97


def test_a_loud_sound_without_a_name_has_what_it_may_be() -> None:
    level_db = [-60.0] * 30 + [-30.0] * 20 + [-60.0] * 50
    found = merge(
        scores("." * 30 + "b" * 20 + "." * 50),
        classes=CLASSES,
        classify=lambda _first, _stop: Named(
            [], [TypeProbability("bark", 0.2), TypeProbability("horn", 0.1)]
        ),
        levels=levels(level_db),
        blur_s=BLUR_S,
    )
    assert [event.noise_type for event in found] == [UNCLASSIFIED]
    assert [each.noise_type for each in found[0].candidates] == ["bark", "horn"]


@pytest.mark.parametrize("n_steps", [1, 5, 29, 30, 400])
def test_a_recording_without_segments_is_looked_at_whole_however_short_it_is(n_steps: int) -> None:
    recorded = np.zeros(n_steps, dtype=bool)
    windows = quiet_windows([], is_lost=recorded)
    assert (windows[0].first, windows[-1].stop) == (0, n_steps)
    short_gap = quiet_windows([Segment(10, 20)], is_lost=np.zeros(30, dtype=bool))
    assert short_gap == []
