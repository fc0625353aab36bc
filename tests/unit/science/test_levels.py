"""Levels against IEC 61672-1, and against themselves for any cut of the audio."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels import (
    LevelDataError,
    LevelMeter,
    LevelSeries,
    a_weighting,
    step_start,
)

DATA = Path(__file__).parent / "data"


def rows(name: str) -> list[dict[str, float]]:
    with (DATA / name).open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def measure(
    samples: NDArray[np.floating], rate_hz: int, *, cuts: list[int] | None = None
) -> LevelSeries:
    block = samples.astype(np.float32)
    block = block[:, None] if block.ndim == 1 else block
    meter = LevelMeter(rate_hz=rate_hz, n_channels=block.shape[1])
    for part in np.split(block, cuts or []):
        meter.push(part)
    return meter.finish()


def sine(rate_hz: int, *, hz: float, seconds: float, peak: float = 1.0) -> NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000])
def test_weighting_keeps_class_1(rate_hz: int) -> None:
    table = [row for row in rows("iec61672_weighting.csv") if row["exact_hz"] < 0.45 * rate_hz]
    assert len(table) >= 33
    sections = a_weighting(rate_hz)
    _, response = signal.freqz_sos(sections, worN=[row["exact_hz"] for row in table], fs=rate_hz)
    for row, gain in zip(table, np.abs(response), strict=True):
        off_db = 20 * math.log10(gain) - row["a_db"]
        assert row["class1_lower_db"] <= off_db <= row["class1_upper_db"], row


@pytest.mark.parametrize("hz", [63.0957, 1000.0, 7943.2823])
def test_a_measured_sine_has_the_weighted_level(hz: float) -> None:
    row = next(row for row in rows("iec61672_weighting.csv") if abs(row["exact_hz"] - hz) < 0.01)
    level_db = measure(sine(48_000, hz=hz, seconds=3), 48_000).laeq_db(1.0, 3.0)
    assert level_db is not None
    assert row["class1_lower_db"] <= level_db + 3.0103 - row["a_db"] <= row["class1_upper_db"]


def test_a_full_scale_sine_at_1_khz_is_3_db_below_full_scale() -> None:
    level_db = measure(sine(44_100, hz=1000, seconds=4), 44_100).laeq_db(1.0, 4.0)
    assert level_db == pytest.approx(-3.0103, abs=0.001)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_tone_bursts_reach_the_fast_maximum_of_class_1(rate_hz: int) -> None:
    steady = measure(sine(rate_hz, hz=4000, seconds=3), rate_hz).lafmax_db(2.5, 3.0)
    assert steady is not None
    for row in rows("iec61672_tonebursts_4khz.csv"):
        burst = sine(rate_hz, hz=4000, seconds=row["burst_ms"] / 1000)
        silence = np.zeros(rate_hz)
        maximum = measure(np.concatenate([silence, burst, silence]), rate_hz).lafmax_db()
        assert maximum is not None
        off_db = maximum - steady - row["lafmax_minus_steady_db"]
        assert row["class1_lower_f_e_db"] <= off_db <= row["class1_upper_f_e_db"], row


def test_the_fast_level_decays_by_34_74_db_a_second() -> None:
    samples = np.concatenate([sine(48_000, hz=1000, seconds=2), np.zeros(96_000)])
    levels = measure(samples, 48_000)
    first, last = levels.lafmax_db(2.3, 2.4), levels.lafmax_db(3.3, 3.4)
    assert first is not None
    assert last is not None
    assert first - last == pytest.approx(34.74, abs=0.05)


@pytest.mark.parametrize(
    ("quiet_db", "loud_db", "loud_s", "total_s", "expected_db"),
    [(-40.0, -20.0, 30, 60, -22.97), (-60.0, -20.0, 1, 3_600, -54.23)],
)
def test_equivalent_levels_with_closed_forms(
    quiet_db: float, loud_db: float, loud_s: int, total_s: int, expected_db: float
) -> None:
    mean_square = np.full(total_s * 10, 10 ** (quiet_db / 10), dtype=np.float32)
    mean_square[: loud_s * 10] = 10 ** (loud_db / 10)
    levels = LevelSeries(8_000, total_s * 8_000, mean_square, mean_square)
    assert levels.laeq_db() == pytest.approx(expected_db, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(
    rate_hz=st.sampled_from([4_000, 11_025, 22_050, 44_100]),
    seconds=st.floats(0.001, 1.5),
    n_channels=st.integers(1, 3),
    data=st.data(),
)
def test_any_cut_into_blocks_gives_the_same_levels(
    rate_hz: int, seconds: float, n_channels: int, data: st.DataObject
) -> None:
    n_frames = max(1, int(rate_hz * seconds))
    samples = np.random.default_rng(n_frames).normal(0, 0.1, (n_frames, n_channels))
    cuts = sorted(data.draw(st.lists(st.integers(0, n_frames), max_size=12)))
    whole, in_blocks = measure(samples, rate_hz), measure(samples, rate_hz, cuts=cuts)
    np.testing.assert_allclose(in_blocks.mean_square, whole.mean_square, rtol=1e-6)
    np.testing.assert_allclose(in_blocks.fast_max, whole.fast_max, rtol=1e-6)
    n_steps = sum(1 for k in range(1_000) if step_start(k, rate_hz=rate_hz) < n_frames)
    assert whole.mean_square.size == n_steps
    assert whole.n_frames == n_frames


def test_the_steps_lie_on_the_exact_grid() -> None:
    assert [step_start(k, rate_hz=11_025) for k in range(4)] == [0, 1_103, 2_205, 3_308]
    assert step_start(36_000, rate_hz=44_100) == 3_600 * 44_100


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
    levels = LevelSeries(1_000, 300, mean_square, mean_square)
    expected_db = 10 * math.log10((0.05 * 1.0 + 0.1 * 0.01) / 0.15)
    assert levels.laeq_db(0.05, 0.2) == pytest.approx(expected_db, abs=1e-6)
    assert levels.lafmax_db(0.1, 0.3) == pytest.approx(-20.0, abs=1e-5)


def test_levels_survive_storage() -> None:
    levels = measure(np.random.default_rng(1).normal(0, 0.1, 30_011), 16_000)
    again = LevelSeries.from_bytes(levels.to_bytes())
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
        LevelSeries.from_bytes(damage)


def test_a_block_of_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        LevelMeter(rate_hz=8_000, n_channels=2).push(np.zeros((5, 1), dtype=np.float32))
