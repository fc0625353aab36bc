"""The meter against IEC 61672-1, closed forms, and itself for any division into blocks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from actors.science.levels import meter
from actors.science.levels.levels import STEPS_PER_S, step_start, step_starts
from actors.science.levels.meter import LevelMeter
from actors.science.levels.peak import PeakMeter
from actors.science.levels.time_weighting import TimeWeighting
from actors.science.levels.totals import to_db
from tests.support.metering import exact, measure, metered, overall, rows, sine, table, tone

#: dB re 20 micropascal of a digital full scale that corresponds to one pascal.
PASCAL_DB = 20 * math.log10(1 / 20e-6)


@pytest.mark.parametrize("rate_hz", [11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_tone_bursts_keep_class_1(rate_hz: int) -> None:
    steady_db = overall(sine(rate_hz, hz=4000, seconds=8), rate_hz)["lasmax_db"]
    for row in rows("iec61672_tonebursts_4khz.csv"):
        burst = sine(rate_hz, hz=4000, seconds=row["burst_ms"] / 1000)
        silence = np.zeros(rate_hz)
        found = overall(np.concatenate([silence, burst, silence]), rate_hz)
        for name, limits in (("lafmax", "f_e"), ("lae", "f_e"), ("lasmax", "s")):
            if f"{name}_minus_steady_db" not in row:
                assert name == "lasmax"
                assert row["burst_ms"] < 2
                continue
            off_db = found[f"{name}_db"] - steady_db - row[f"{name}_minus_steady_db"]
            lower, upper = row[f"class1_lower_{limits}_db"], row[f"class1_upper_{limits}_db"]
            assert lower <= off_db <= upper, (name, row, off_db)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000])
@pytest.mark.parametrize(
    "row", table("iec61672_cpeak.csv"), ids=lambda r: f"{r['signal']}-{r['frequency_hz']}"
)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_c_peaks_keep_class_1(rate_hz: int, row: dict[str, str], offset: float) -> None:
    hz = float(row["frequency_hz"])
    n_cycles, sign = {
        "one_cycle": (1.0, 1),
        "positive_half_cycle": (0.5, 1),
        "negative_half_cycle": (0.5, -1),
    }[row["signal"]]
    at_s = (np.arange(rate_hz) - offset) / rate_hz - 0.5
    inside = (at_s >= 0) & (at_s < n_cycles / hz)
    pulse = np.where(inside, sign * np.sin(2 * np.pi * hz * at_s), 0.0)
    steady_db = overall(sine(rate_hz, hz=hz, seconds=4), rate_hz)["lceq_db"]
    off_db = overall(pulse, rate_hz)["lcpeak_db"] - steady_db - float(row["lcpeak_minus_lc_db"])
    assert abs(off_db) <= float(row["tolerance_db"])


@pytest.mark.parametrize("share", [0.125, 0.25, 1 / 3, 0.4])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_the_peak_is_found_between_the_samples(share: float, phase: float) -> None:
    """At a quarter of the rate all samples of a sine may be 3 dB below its peak."""
    samples = np.sin(2 * np.pi * share * (np.arange(96_000) + phase))
    fade = np.minimum(1.0, np.arange(96_000) / 24_000)
    found = overall(samples * fade * fade[::-1], 48_000)
    assert found["lcpeak_db"] - found["lceq_db"] > 0
    steady_db = overall(np.sin(2 * np.pi * share * (np.arange(192_000) + 0.123)), 48_000)["lceq_db"]
    assert found["lcpeak_db"] - steady_db == pytest.approx(3.01, abs=0.1)


def test_the_peak_is_the_greatest_of_any_channel() -> None:
    loud, faint = tone(90, 2), tone(60, 2)
    both = overall(np.stack([faint, loud], axis=1), 8_000)
    assert both["lcpeak_db"] == pytest.approx(overall(loud, 8_000)["lcpeak_db"], abs=1e-9)


def test_a_sine_has_its_root_mean_square() -> None:
    expected, tolerance = exact("rms_dbfs")
    found = overall(sine(44_100, hz=1000, seconds=10), 44_100)
    assert found["lzeq_db"] == pytest.approx(expected, abs=tolerance)
    assert found["lceq_db"] == pytest.approx(expected, abs=0.01)
    assert found["laeq_db"] == pytest.approx(expected, abs=0.01)
    pascals, tolerance = exact("rms_pa")
    level_db = to_db(pascals**2)
    assert level_db is not None
    assert level_db + PASCAL_DB == pytest.approx(94, abs=20 * math.log10(1 + 2 * tolerance))


def test_the_equivalent_level_with_a_closed_form() -> None:
    expected, tolerance = exact("leq_db", "half at 60 dB and half at 80 dB")
    found = overall(np.concatenate([tone(60, 30), tone(80, 30)]), 8_000, calibration_db=100)
    for level in ("laeq_db", "lceq_db", "lzeq_db"):
        assert found[level] == pytest.approx(expected, abs=tolerance), level


def test_the_exposure_level_with_a_closed_form() -> None:
    expected, tolerance = exact("lae_db", "94 dB for 10 s")
    found = overall(tone(94, 10), 8_000, calibration_db=100)
    assert found["lae_db"] == pytest.approx(expected, abs=tolerance)


def test_the_time_weightings_decay_as_they_must() -> None:
    samples = np.concatenate([sine(48_000, hz=1000, seconds=2), np.zeros(96_000)])
    levels = measure(samples, 48_000)
    first, last = levels.lafmax_db(2.3, 2.4), levels.lafmax_db(3.3, 3.4)
    assert first is not None
    assert last is not None
    expected, tolerance = exact("decay_db_per_s_fast")
    assert first - last == pytest.approx(expected, abs=tolerance)

    weighting = TimeWeighting(rate_hz=8_000, n_frames=8_000)
    starts = np.array([0])
    weighting.push(np.ones(8_000), starts)
    maxima = []
    for _ in range(3):
        weighting.slow_max = 0.0
        weighting.push(np.zeros(8_000), starts)
        maxima.append(10 * math.log10(weighting.slow_max))
    expected, tolerance = exact("decay_db_per_s_slow")
    assert -np.diff(maxima) == pytest.approx(expected, abs=tolerance)


def test_a_constant_offset_is_no_sound() -> None:
    with_offset = overall(tone(80, 4) + 0.3, 8_000, calibration_db=100)
    assert with_offset["lzeq_db"] == pytest.approx(80, abs=0.01)


def test_the_minimum_is_not_the_start_from_silence() -> None:
    samples = np.concatenate([tone(80, 4), tone(60, 4), tone(80, 4)])
    found = overall(samples, 8_000, calibration_db=100)
    assert found["lafmin_db"] == pytest.approx(60, abs=0.05)
    assert found["lafmax_db"] == pytest.approx(80, abs=0.05)
    short = metered(tone(80, 0.99), 8_000)[1]
    assert short.fast_min is None
    assert short.overall_db()["lafmin_db"] is None
    assert set(short.percentiles_db().values()) == {None}


@settings(max_examples=15)
@given(
    rate_hz=st.sampled_from([4_000, 4_007, 11_025, 22_050, 44_100, 96_000]),
    seconds=st.floats(0.001, 2.5),
    n_channels=st.integers(1, 3),
    data=st.data(),
)
def test_any_cut_into_blocks_gives_the_same_levels(
    rate_hz: int, seconds: float, n_channels: int, data: st.DataObject
) -> None:
    n_frames = max(1, int(rate_hz * seconds))
    samples = np.random.default_rng(n_frames).normal(0, 0.1, (n_frames, n_channels))
    cuts = sorted(data.draw(st.lists(st.integers(0, n_frames), max_size=12)))
    whole, whole_totals = metered(samples, rate_hz, third_octaves=True)
    cut, cut_totals = metered(samples, rate_hz, cuts=cuts, third_octaves=True)
    assert cut.to_bytes() == whole.to_bytes()
    assert cut_totals.to_json() == whole_totals.to_json()
    n_steps = sum(1 for k in range(1_000) if step_start(k, rate_hz=rate_hz) < n_frames)
    for array in (whole.mean_square, whole.fast_max, whole.slow_max, whole.c_peak):
        assert array is not None
        assert array.size == n_steps
    assert whole.overloaded is not None
    assert whole.overloaded.size == n_steps
    assert whole.n_frames == n_frames
    # Both results are of the same recording.
    in_total = whole_totals.overall_db()
    assert whole.laeq_db() == pytest.approx(in_total["laeq_db"], abs=1e-4)
    assert whole.lafmax_db() == pytest.approx(in_total["lafmax_db"], abs=1e-4)
    for steps, name in ((whole.slow_max, "lasmax_db"), (whole.c_peak, "lcpeak_db")):
        assert steps is not None
        assert steps.max() / 100 == pytest.approx(in_total[name], abs=0.005 + 1e-9)


def test_many_channels_are_measured_in_shorter_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(4).normal(0, 0.1, (70_003, 2))
    # The offset is estimated from the first block, whose length differs here; so there is none.
    for half in (slice(16_000), slice(16_000, 32_000)):
        samples[half] -= samples[half].mean(axis=0)
    series, totals = metered(samples, 32_000, third_octaves=True)
    monkeypatch.setattr(meter, "LARGEST_BLOCK", 32_000)
    shorter, in_halves = metered(samples, 32_000, third_octaves=True)
    np.testing.assert_allclose(shorter.mean_square, series.mean_square, rtol=1e-6)
    np.testing.assert_allclose(shorter.fast_max, series.fast_max, rtol=1e-6)
    for one, other in ((shorter.slow_max, series.slow_max), (shorter.c_peak, series.c_peak)):
        assert one is not None
        assert other is not None
        assert np.abs(one - other).max() <= 1
    assert in_halves.percentiles_db() == pytest.approx(totals.percentiles_db(), abs=0.01)
    assert in_halves.overall_db() == pytest.approx(totals.overall_db(), abs=0.01)
    assert in_halves.band_mean_squares == pytest.approx(totals.band_mean_squares)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100])
@pytest.mark.parametrize(("which", "tau_s"), [(0, 0.125), (1, 1.0)], ids=["fast", "slow"])
def test_maxima_of_steps_are_those_of_every_sample(rate_hz: int, which: int, tau_s: float) -> None:
    """The textbook recursion, sample by sample, on the same squares as the meter's."""
    rng = np.random.default_rng(3)
    squares = rng.normal(0, 0.1, 2 * rate_hz) ** 2
    squares[rate_hz : rate_hz + 40] = 1.0
    decay = math.exp(-1 / (rate_hz * tau_s))
    weighted, level = [], 0.0
    for square in squares:
        level = decay * level + (1 - decay) * float(square)
        weighted.append(level)
    weighting = TimeWeighting(rate_hz=rate_hz, n_frames=rate_hz)
    starts = np.array([step_start(k, rate_hz=rate_hz) for k in range(STEPS_PER_S)])
    halves = squares[:rate_hz], squares[rate_hz:]
    maxima = [weighting.push(half, starts)[which] for half in halves]
    bounds = [step_start(k, rate_hz=rate_hz) for k in range(2 * STEPS_PER_S + 1)]
    wanted = [max(weighted[a:b]) for a, b in itertools.pairwise(bounds)]
    off_db = 10 * np.log10(np.concatenate(maxima) / np.array(wanted))
    # The level rises by more within a tick when it has just left silence.
    assert np.abs(off_db[5:]).max() < 0.05
    assert np.abs(off_db).max() < 0.1
    greatest = (weighting.fast_max, weighting.slow_max)[which]
    assert 10 * math.log10(greatest / max(weighted)) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("rate_hz", [4_007, 16_000, 22_050])
def test_peaks_of_steps_are_those_of_the_curve_between_samples(rate_hz: int) -> None:
    """Each step against sixteenfold oversampling of the whole; blocks have no effect."""
    noise = np.random.default_rng(6).normal(0, 0.1, 3 * rate_hz)
    samples = np.asarray(signal.sosfilt(signal.butter(4, 0.5, output="sos"), noise))
    starts = step_starts(0, STEPS_PER_S, rate_hz=rate_hz)[:-1]
    peak = PeakMeter()
    found = [peak.push(part, starts) for part in np.split(samples, 3)]
    peaks = np.concatenate([*found, peak.finish()])
    bounds = step_starts(0, 3 * STEPS_PER_S, rate_hz=rate_hz)
    magnitudes, dense = np.abs(samples), np.abs(signal.resample(samples, 16 * samples.size))
    steps = list(itertools.pairwise(bounds))[1:-1]
    exact = np.array([dense[16 * a : 16 * b].max() for a, b in steps])
    assert np.median(np.abs(20 * np.log10(peaks[1:-1] / exact))) < 0.02
    # No less than any sample, and no more than the curve from a sample before to a sample after.
    assert (peaks[1:-1] >= [magnitudes[a:b].max() for a, b in steps]).all()
    around = np.array([dense[16 * (a - 1) : 16 * (b + 1)].max() for a, b in steps])
    assert (20 * np.log10(peaks[1:-1] / around)).max() < 0.02
    whole = PeakMeter()
    at_once = np.concatenate([whole.push(samples, bounds[:-1]), whole.finish()])
    np.testing.assert_allclose(at_once, peaks, rtol=1e-12)


def test_channels_are_averaged_as_powers() -> None:
    samples = sine(16_000, hz=1000, seconds=4)
    both = overall(np.stack([samples, -samples], axis=1), 16_000)
    one = overall(np.stack([samples, 0 * samples], axis=1), 16_000)
    for name in ("laeq_db", "lceq_db", "lzeq_db", "lafmax_db", "lasmax_db"):
        assert both[name] - one[name] == pytest.approx(3.0103, abs=0.001)


def test_silence_and_nothing_have_no_level() -> None:
    for samples in (np.zeros(32_000), np.zeros(0)):
        series, totals = metered(samples, 16_000, third_octaves=True)
        assert series.laeq_db() is None
        assert series.lafmax_db() is None
        assert set(totals.overall_db(94.0).values()) == {None}
        assert set(totals.percentiles_db(94.0).values()) == {None}
        assert totals.third_octaves() is not None


def test_a_block_of_another_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        LevelMeter(rate_hz=8_000, n_channels=2).push(np.zeros((5, 1), dtype=np.float32))
