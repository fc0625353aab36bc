"""A recording that begins in the middle of a sound, or continues after a hole, has no click."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels import priming, weighting
from actors.science.levels.meter import LevelMeter
from actors.science.levels.time_weighting import FAST_TAU_S
from actors.science.types import Hole, HoleKind
from tests.support.metering import overall

RATES = (8_000, 11_025, 16_000, 44_100, 48_000, 96_000, 192_000)
PEAK = 0.45


def tone(
    rate_hz: int, *, hz: float, phase: float, seconds: float, before_s: float = 0.0
) -> NDArray[np.float64]:
    at = np.arange(-round(before_s * rate_hz), round(seconds * rate_hz))
    found: NDArray[np.float64] = PEAK * np.cos(2 * np.pi * (hz * at / rate_hz + phase))
    return found


def gain_db(sections: NDArray[np.float64], *, hz: float, rate_hz: int) -> float:
    """Return the gain of a weighting for a frequency."""
    [response] = signal.freqz_sos(sections, worN=[hz], fs=rate_hz)[1]
    return float(20 * np.log10(abs(response)))


@given(
    rate_hz=st.sampled_from(RATES),
    hz=st.floats(31.5, 16_000),
    phase=st.floats(0, 1),
    offset=st.sampled_from([0.0, 0.05, 0.3, -0.5]),
    seconds=st.sampled_from([0.2, 1.0, 1.7]),
)
@example(rate_hz=16_000, hz=6_000, phase=0.2, offset=0.0, seconds=1.0)
@example(rate_hz=192_000, hz=31.5, phase=0.03, offset=-0.5, seconds=1.0)
def test_a_recording_that_begins_in_a_tone_has_the_levels_of_the_tone(
    rate_hz: int, hz: float, phase: float, offset: float, seconds: float
) -> None:
    """Those of the same interval of a tone that began a second before, for any phase."""
    hz = min(hz, weighting.SUPPORTED_SHARE * rate_hz)
    found = overall(tone(rate_hz, hz=hz, phase=phase, seconds=seconds) + offset, rate_hz)
    longer = tone(rate_hz, hz=hz, phase=phase, seconds=seconds, before_s=1.0)
    squares = signal.sosfilt(weighting.a_weighting(rate_hz), longer)[rate_hz:] ** 2
    assert found["laeq_db"] == pytest.approx(10 * np.log10(squares.mean()), abs=0.05)
    decay = math.exp(-1 / (rate_hz * FAST_TAU_S))
    fast = signal.lfilter([1 - decay], [1, -decay], squares)
    assert found["lafmax_db"] == pytest.approx(10 * np.log10(fast.max()), abs=0.05)
    of_c_db = gain_db(weighting.c_weighting(rate_hz), hz=hz, rate_hz=rate_hz)
    assert found["lcpeak_db"] == pytest.approx(20 * np.log10(PEAK) + of_c_db, abs=0.2)
    if seconds >= 1:
        assert found["lceq_db"] == pytest.approx(20 * np.log10(PEAK) - 3.01 + of_c_db, abs=0.1)


@given(
    rate_hz=st.sampled_from([8_000, 44_100, 96_000]),
    hz=st.floats(31.5, 3_000),
    start_s=st.floats(0, 1.5),
    length_s=st.floats(0.001, 1.2),
)
def test_the_edges_of_a_hole_are_no_clicks(
    rate_hz: int, hz: float, start_s: float, length_s: float
) -> None:
    # The filters start from as much sound as is left of the block of a second.
    end_s = start_s + length_s
    if end_s % 1.0 > 1.0 - priming.FIT_S:
        end_s += priming.FIT_S
    hole = Hole(round(start_s * rate_hz), round(end_s * rate_hz), HoleKind.GAP)
    samples = tone(rate_hz, hz=hz, phase=0.0, seconds=3.5).astype(np.float32)
    samples[hole.start : hole.stop] = 0.0
    meter = LevelMeter(rate_hz=rate_hz, n_channels=1)
    meter.holes = [hole]
    meter.push(samples[:, None])
    meter.finish()
    wanted_db = 20 * np.log10(PEAK) + gain_db(
        weighting.c_weighting(rate_hz), hz=hz, rate_hz=rate_hz
    )
    # A click is above it by more than a decibel.
    assert meter.totals().overall_db()["lcpeak_db"] == pytest.approx(wanted_db, abs=0.5)


@pytest.mark.parametrize("rate_hz", [8_000, 48_000, 192_000])
def test_noise_is_as_loud_at_its_start_as_later(rate_hz: int) -> None:
    """Brown noise, most of which is below the weightings."""
    steps = np.random.default_rng(rate_hz).normal(0, 1, 3 * rate_hz)
    sound = signal.lfilter([1.0], [1.0, -(1 - 50 / rate_hz)], steps)
    sound *= 0.1 / np.abs(sound).max()
    weighted = signal.sosfilt(weighting.a_weighting(rate_hz), sound)
    errors_db = []
    for first in range(rate_hz, 2 * rate_hz, rate_hz // 10):
        part = slice(first, first + rate_hz // 5)
        wanted_db = 10 * np.log10((weighted[part] ** 2).mean())
        errors_db.append(overall(sound[part], rate_hz)["laeq_db"] - wanted_db)
    assert np.abs(errors_db).max() < 0.1


@given(seed=st.integers(0, 1_000), n_samples=st.integers(0, 900), silent=st.booleans())
def test_the_sound_before_is_bounded(seed: int, n_samples: int, silent: bool) -> None:
    """It is not much louder than the sound after it, and before silence it is silence."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.1, n_samples) * rng.choice([1.0, 1e-9, 0.0])
    samples[: 2 * priming.ORDER if silent else 0] = 0.0
    past = priming.sound_before(samples, rate_hz=8_000)
    assert np.isfinite(past).all()
    assert np.abs(past).max(initial=0) <= 3 * np.abs(samples).max(initial=0)
    if silent:
        assert not past.any()
