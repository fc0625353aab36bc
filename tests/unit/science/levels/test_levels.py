"""The grid of levels over time: its steps, intervals of it, and its storage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.levels.levels import STEP_S, LevelDataError, LevelHistory, step_start
from tests.unit.science.metering import measure, sine


def test_the_steps_lie_on_the_exact_grid() -> None:
    assert [step_start(k, rate_hz=11_025) for k in range(4)] == [0, 110, 221, 331]
    assert step_start(360_000, rate_hz=44_100) == 3_600 * 44_100


def test_channels_are_averaged_as_powers() -> None:
    tone = sine(16_000, hz=1000, seconds=2)
    both = measure(np.stack([tone, -tone], axis=1), 16_000)
    one = measure(np.stack([tone, 0 * tone], axis=1), 16_000)
    assert both.laeq_db(1, 2) == pytest.approx(-3.01, abs=0.01)
    assert one.laeq_db(1, 2) == pytest.approx(-6.02, abs=0.01)


def test_silence_and_nothing_have_no_level() -> None:
    silence = measure(np.zeros(16_000), 16_000)
    assert silence.laeq_db() is None
    assert silence.lafmax_db() is None
    tone = measure(sine(16_000, hz=1000, seconds=1), 16_000)
    assert tone.laeq_db(0.5, 0.5) is None
    assert tone.lafmax_db(5.0, 6.0) is None
    assert measure(np.zeros(0), 16_000).laeq_db() is None


def test_half_a_step_counts_as_half() -> None:
    mean_square = np.array([1.0, 0.01, 0.01], dtype=np.float32)
    levels = LevelHistory(1_000, 30, mean_square, mean_square)
    expected_db = 10 * math.log10((0.005 * 1.0 + 0.01 * 0.01) / 0.015)
    assert levels.laeq_db(0.005, 0.02) == pytest.approx(expected_db, abs=1e-6)
    assert levels.lafmax_db(0.01, 0.03) == pytest.approx(-20.0, abs=1e-5)


def test_seconds_are_made_of_steps() -> None:
    levels = measure(np.random.default_rng(1).normal(0, 0.1, 11_025 * 2 + 3_000), 11_025)
    mean_square, fast_max = levels.seconds()
    assert len(mean_square) == len(fast_max) == 3
    for second in range(3):
        level_db = levels.laeq_db(second, second + 1)
        assert 10 * math.log10(mean_square[second]) == pytest.approx(level_db, abs=1e-6)
        assert 10 * math.log10(fast_max[second]) == levels.lafmax_db(second, second + 1)
    nothing, _ = measure(np.zeros(0), 8_000).seconds()
    assert nothing.size == 0


@given(
    n_steps=st.integers(0, 300),
    lead_s=st.floats(0, 0.3),
    step_s=st.sampled_from([0.01, 0.1, 0.25]),
)
def test_a_grid_has_all_the_energy_wherever_it_begins(
    n_steps: int, lead_s: float, step_s: float
) -> None:
    levels = measure(np.random.default_rng(1).normal(0, 0.1, 80 * n_steps), 8_000)
    found = levels.on_grid(step_s=step_s, lead_s=lead_s)
    starts_s = np.arange(found.size + 1) * step_s - lead_s
    lengths_s = np.diff(np.clip(starts_s, 0, levels.duration_s))
    assert starts_s[-1] >= levels.duration_s - 1e-6
    energy = float(levels.mean_square.sum()) * STEP_S
    assert float(found @ lengths_s) == pytest.approx(energy, rel=1e-4)
    assert (found[lengths_s <= 0] == 0).all()


def test_a_grid_of_its_own_steps_is_the_levels_themselves() -> None:
    levels = measure(np.random.default_rng(2).normal(0, 0.1, 11_025 + 300), 11_025)
    np.testing.assert_allclose(
        levels.on_grid(step_s=1.0, lead_s=0.0), levels.seconds()[0], rtol=1e-6
    )
    levels = measure(np.random.default_rng(2).normal(0, 0.1, 30_000), 16_000)
    np.testing.assert_allclose(
        levels.on_grid(step_s=STEP_S, lead_s=0.0), levels.mean_square, rtol=1e-5
    )


def test_levels_survive_storage() -> None:
    levels = measure(np.random.default_rng(1).normal(0, 0.1, 30_011), 16_000)
    again = LevelHistory.from_bytes(levels.to_bytes())
    assert (again.rate_hz, again.n_frames) == (16_000, 30_011)
    np.testing.assert_array_equal(again.mean_square, levels.mean_square)
    np.testing.assert_array_equal(again.fast_max, levels.fast_max)
    assert again.laeq_db(0.3, 1.1) == levels.laeq_db(0.3, 1.1)


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 9, "short", "long"])
def test_damaged_levels_are_refused(damage: bytes | str) -> None:
    data = measure(np.ones(16_000), 16_000).to_bytes()
    if isinstance(damage, str):
        damage = data[:-1] if damage == "short" else data + b"\0"
    with pytest.raises(LevelDataError):
        LevelHistory.from_bytes(damage)
