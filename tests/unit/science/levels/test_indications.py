"""Overload and under-range: shares, times and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.levels import indications
from actors.science.levels.levels import STEP_S, LevelHistory


def history(
    overloaded: list[bool] | None, *, mean_square: list[float] | None = None
) -> LevelHistory:
    """Return levels at 8 kHz."""
    n_steps = len(mean_square or overloaded or [])
    squares = np.array(mean_square or [1.0] * n_steps, dtype=np.float32)
    return LevelHistory(
        8_000,
        80 * n_steps,
        squares,
        squares,
        overloaded=None if overloaded is None else np.array(overloaded, dtype=np.bool_),
    )


def test_nothing_is_said_of_a_recording_without_the_measurement() -> None:
    levels = history(None, mean_square=[1.0] * 10)
    assert indications.overloaded_time(levels) is None
    assert indications.is_overloaded(levels, 0, 1) is None
    assert indications.overloaded_steps(levels, step_s=1) is None
    assert indications.overload_on_grid(levels, step_s=1, lead_s=0) is None


@given(st.lists(st.booleans(), min_size=1, max_size=250))
def test_the_parts_add_up_to_the_whole(marks: list[bool]) -> None:
    levels = history(marks)
    whole = indications.overloaded_time(levels)
    seconds = indications.overloaded_steps(levels, step_s=1.0)
    assert whole is not None
    assert seconds is not None
    assert whole.total_s == pytest.approx(sum(marks) * STEP_S)
    assert seconds.sum() == pytest.approx(whole.total_s)
    assert seconds.size == math.ceil(len(marks) / 100)
    assert whole.first_s == (marks.index(True) * STEP_S if any(marks) else None)
    assert indications.is_overloaded(levels, 0, levels.duration_s) is any(marks)


def test_an_interval_is_overloaded_if_a_step_of_it_is() -> None:
    levels = history([False] * 29 + [True] + [False] * 70)
    assert indications.is_overloaded(levels, 0.29, 0.3)
    assert indications.is_overloaded(levels, 0.0, 0.291)
    assert not indications.is_overloaded(levels, 0.0, 0.29)
    assert not indications.is_overloaded(levels, 0.3, 2.0)


def test_shares_on_a_grid_are_of_the_recorded_part() -> None:
    levels = history([True] * 50 + [False] * 150, mean_square=[3.0] * 50 + [1.0] * 150)
    shares = indications.overload_on_grid(levels, step_s=2.0, lead_s=1.0)
    assert shares is not None
    assert shares.time == pytest.approx([0.5, 0.0])
    assert shares.energy == pytest.approx([0.75, 0.0])


def test_self_noise_raises_the_lowest_level_in_range_by_the_limit() -> None:
    least_db = indications.least_in_range_db(30.0)
    sound_db = 10 * math.log10(10 ** (least_db / 10) - 10**3)
    assert least_db - sound_db == pytest.approx(indications.LARGEST_ERROR_DB)
