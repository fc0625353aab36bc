"""The sums of an analysis are consistent for any events."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from actors.science.levels.levels import LevelHistory
from actors.science.summaries import session_analysis
from actors.science.summaries.intervals import Intervals
from actors.science.summaries.session_analysis import Events

TYPES = ("dog_bark", "rain", "siren")
DURATION_S = 150.0
RATE_HZ = 100


#: Onset, offset, type, confidence, LAeq and LAFmax.
Row = tuple[float, float, str, float, float | None, float | None]
COLUMNS = ("start_s", "end_s", "noise_type", "confidence", "laeq_db", "lafmax_db")


def events_of(rows: list[Row]) -> Events:
    columns: Any = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    return Events.of(**dict(zip(COLUMNS, columns, strict=True)))


def levels(mean_square: NDArray[np.float64]) -> LevelHistory:
    """Return levels in steps of 10 ms, at a rate of one frame per step."""
    steps = mean_square.astype(np.float32)
    return LevelHistory(RATE_HZ, steps.size, steps, steps)


def some_levels(seed: int = 0) -> LevelHistory:
    """Return levels spread over 60 dB, more than in any recording."""
    rng = np.random.default_rng(seed)
    return levels(10 ** rng.uniform(-9, -3, int(DURATION_S * RATE_HZ)))


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Generate events that overlap, touch, and extend beyond the end."""
    times = st.integers(0, 1_550).map(lambda tenths: tenths / 10)
    found: list[Row] = []
    for _ in range(draw(st.integers(0, 12))):
        start_s = draw(times)
        end_s = start_s + draw(st.integers(1, 900)) / 10
        level_db = draw(st.one_of(st.none(), st.floats(-80, 0)))
        found.append(
            (
                start_s,
                end_s,
                draw(st.sampled_from(TYPES)),
                draw(st.floats(0, 1)),
                level_db,
                level_db,
            )
        )
    return found


def heard(events: Events) -> dict[str, Intervals]:
    return session_analysis.heard(events, duration_s=DURATION_S)


def stretch(start_s: float, end_s: float) -> Intervals:
    return Intervals(np.array([start_s]), np.array([end_s]))


NOTHING = Intervals(np.zeros(0), np.zeros(0))


@given(rows(), st.integers(0, 1_400), st.integers(1, 900))
def test_the_shares_of_the_sound_are_one_together(
    given_rows: list[Row], lost_tenths: int, n_lost: int
) -> None:
    lost_s = lost_tenths / 10
    unheard = Intervals.union(
        np.array([lost_s]), np.array([lost_s + n_lost / 10]), duration_s=DURATION_S
    )
    shares = session_analysis.energy_shares(
        heard(events_of(given_rows)), some_levels().energy_curve(), unheard=unheard
    )
    assert shares is not None
    parts = [*shares.by_type.values(), shares.background, shares.unheard]
    assert all(part >= 0 for part in parts)
    assert math.fsum(parts) == pytest.approx(1.0, abs=1e-9)


@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_the_events_changes_nothing(given_rows: list[Row], random: object) -> None:
    shuffled = list(given_rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = events_of(given_rows), events_of(shuffled)
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name))


@given(rows())
def test_the_minutes_add_up_to_the_whole(given_rows: list[Row]) -> None:
    events = events_of(given_rows)
    bounds_s = session_analysis.bounds_of(DURATION_S, step_s=session_analysis.MINUTE_S)
    assert bounds_s.tolist() == [0.0, 60.0, 120.0, DURATION_S]
    begun = [
        session_analysis.begun(events.start_s[at], n_minutes=3) for at in events.by_type().values()
    ]
    assert sum(int(each.sum()) for each in begun) == len(given_rows)
    for part in heard(events).values():
        in_minutes = part.between_s(bounds_s)
        assert in_minutes.max() <= 60.0 + 1e-9
        assert in_minutes.sum() == pytest.approx(part.total_s)


@given(rows())
def test_a_union_is_what_somebody_who_looks_at_every_tenth_of_a_second_finds(
    given_rows: list[Row],
) -> None:
    middles_s = (np.arange(int(DURATION_S * 10)) + 0.5) / 10
    for name, part in heard(events_of(given_rows)).items():
        is_heard = np.zeros(middles_s.size, dtype=bool)
        for start_s, end_s, noise_type, *_rest in given_rows:
            is_heard |= (noise_type == name) & (middles_s > start_s) & (middles_s < end_s)
        assert part.total_s == pytest.approx(is_heard.sum() / 10)
        assert (part.start_s[1:] > part.end_s[:-1]).all()


@given(rows())
def test_energy_is_split_as_somebody_who_looks_at_every_step_splits_it(
    given_rows: list[Row],
) -> None:
    given_levels = some_levels()
    events = events_of(given_rows)
    middles_s = (np.arange(given_levels.mean_square.size) + 0.5) / RATE_HZ
    is_heard = {
        name: np.any(
            [
                (middles_s > start_s) & (middles_s < end_s)
                for start_s, end_s, noise_type, *_rest in given_rows
                if noise_type == name
            ],
            axis=0,
        )
        for name in events.types
    }
    n_types = np.sum([*is_heard.values(), np.zeros(middles_s.size)], axis=0)
    energy = given_levels.mean_square.astype(np.float64)
    shares = session_analysis.energy_shares(
        heard(events), given_levels.energy_curve(), unheard=NOTHING
    )
    assert shares is not None
    for name, at in is_heard.items():
        wanted = (energy[at] / n_types[at]).sum() / energy.sum()
        assert shares.by_type[name] == pytest.approx(wanted, abs=1e-9)
    wanted = energy[n_types == 0].sum() / energy.sum()
    assert shares.background == pytest.approx(wanted, abs=1e-9)


def test_what_overlaps_is_split_between_types_and_not_between_events() -> None:
    # The same energy in every step: shares of the sound are shares of the time.
    steady = levels(np.full(1_000, 1e-6))
    twice = [(0.0, 4.0, "rain", 0.9, None, None), (0.0, 4.0, "rain", 0.8, None, None)]
    events = events_of([*twice, (2.0, 6.0, "siren", 0.7, None, None)])
    shares = session_analysis.energy_shares(
        session_analysis.heard(events, duration_s=10.0),
        steady.energy_curve(),
        unheard=stretch(5.0, 7.0),
    )
    assert shares is not None
    assert shares.by_type == pytest.approx({"rain": 0.3, "siren": 0.3})
    # Audio from 5 s on was not analysed, but an event lasts until 6 s, and counts as analysed.
    assert shares.unheard == pytest.approx(0.1)
    assert shares.background == pytest.approx(0.3)


def test_digital_silence_has_no_energy_to_be_shared() -> None:
    silent = levels(np.zeros(1_000))
    assert session_analysis.energy_shares({}, silent.energy_curve(), unheard=NOTHING) is None


def test_no_recording_at_all() -> None:
    nothing = events_of([])
    assert session_analysis.bounds_of(0.0, step_s=1.0).tolist() == [0.0]
    assert session_analysis.begun(nothing.start_s, n_minutes=0).tolist() == []
    curve = levels(np.zeros(0)).energy_curve()
    assert (curve.duration_s, curve.mean_squares(np.zeros(1)).tolist()) == (0.0, [])
    assert nothing.by_type() == {}
    assert nothing.loudest(10).size == 0


def test_minutes_have_the_level_of_their_own_seconds() -> None:
    mean_square = np.repeat([1e-4, 1e-6, 1e-5], [6_000, 6_000, 3_050])
    given_levels = levels(mean_square)
    bounds_s = session_analysis.bounds_of(given_levels.duration_s, step_s=session_analysis.MINUTE_S)
    found = given_levels.energy_curve().mean_squares(bounds_s)
    assert found == pytest.approx([1e-4, 1e-6, 1e-5], rel=1e-5)


def test_the_loudest_events_are_told_and_silent_ones_never() -> None:
    given_rows: list[Row] = [
        (0.0, 1.0, "rain", 0.9, -50.0, -40.0),
        (1.0, 2.0, "siren", 0.9, -30.0, -20.0),
        (2.0, 3.0, "siren", 0.9, None, None),
        (3.0, 4.0, "rain", 0.9, -20.0, -20.0),
    ]
    events = events_of(given_rows)
    assert events.start_s[events.loudest(10)].tolist() == [3.0, 1.0, 0.0]
    assert events.start_s[events.loudest(1)].tolist() == [3.0]


def test_confidence_of_one_is_in_the_last_class() -> None:
    counts = session_analysis.confidence_counts(np.array([0.0, 0.099, 0.1, 0.95, 1.0]))
    assert counts.tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_seconds_above_a_limit() -> None:
    second_db = np.array([70.0, 50.0, 66.0, 67.0, 65.0, 80.0])
    events = events_of([(2.5, 3.5, "rain", 0.9, None, None), (3.0, 9.0, "siren", 0.9, None, None)])
    over = session_analysis.exceedances(
        second_db, 65.0, duration_s=5.5, heard=session_analysis.heard(events, duration_s=5.5)
    )
    # 0 to 1, 2 to 4, and the last, which is half a second; 65 is not above 65.
    assert over.above_s == pytest.approx(3.5)
    assert (over.count, over.longest_s, over.longest_start_s) == (3, 2.0, 2.0)
    assert over.heard_s == pytest.approx({"rain": 1.0, "siren": 1.5})
    assert over.background_s == pytest.approx(1.5)


def test_a_limit_that_nothing_is_above() -> None:
    over = session_analysis.exceedances(np.array([50.0]), 65.0, duration_s=1.0, heard={})
    assert (over.above_s, over.count, over.longest_s, over.longest_start_s) == (0.0, 0, 0.0, None)
    assert over.background_s == 0.0
