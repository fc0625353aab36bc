"""The grid of levels over time: its steps, intervals of it, and its storage."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.levels.levels import (
    SILENT,
    STEP_S,
    LevelDataError,
    LevelHistory,
    in_hundredths,
    step_start,
)
from tests.support.metering import measure, sine


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


@pytest.mark.parametrize("n_samples", [0, 100, 30_011])
def test_levels_survive_storage(n_samples: int) -> None:
    levels = measure(np.random.default_rng(1).normal(0, 0.1, n_samples), 16_000)
    assert levels.overloaded is not None
    levels.overloaded[::3] = True
    again = LevelHistory.from_bytes(levels.to_bytes())
    assert (again.rate_hz, again.n_frames) == (16_000, n_samples)
    for name in ("mean_square", "fast_max", "slow_max", "c_peak", "overloaded"):
        stored, measured = getattr(again, name), getattr(levels, name)
        np.testing.assert_array_equal(stored, measured)
        assert stored.dtype == measured.dtype
    assert again.laeq_db(0.3, 1.1) == levels.laeq_db(0.3, 1.1)
    assert again.to_bytes() == levels.to_bytes()


def test_levels_of_an_older_release_are_read() -> None:
    mean_square = np.array([0.5, 0.25, 0.125], dtype="<f4")
    header = struct.pack("<4sHHIQI", b"CLLV", 1, 100, 16_000, 480, 3)
    old = LevelHistory.from_bytes(header + mean_square.tobytes() + (2 * mean_square).tobytes())
    assert (old.rate_hz, old.n_frames) == (16_000, 480)
    np.testing.assert_array_equal(old.mean_square, mean_square)
    np.testing.assert_array_equal(old.fast_max, 2 * mean_square)
    assert (old.slow_max, old.c_peak, old.overloaded) == (None, None, None)


def test_hundredths_are_as_exact_as_they_say() -> None:
    mean_squares = np.random.default_rng(5).uniform(-199.9, 60, 1_000)
    stored = in_hundredths(10 ** (mean_squares / 10))
    assert np.abs(stored / 100 - mean_squares).max() <= 0.005 + 1e-9
    assert in_hundredths(np.array([0.0, 1e-21])).tolist() == [SILENT, SILENT]


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 9, "short", "long", "newer"])
def test_damaged_levels_are_refused(damage: bytes | str) -> None:
    data = measure(np.ones(16_000), 16_000).to_bytes()
    if isinstance(damage, str):
        damage = {
            "short": data[:-1],
            "long": data + b"\0",
            "newer": data[:4] + b"\3\0" + data[6:],
        }[damage]
    with pytest.raises(LevelDataError):
        LevelHistory.from_bytes(damage)
