"""A constant offset is not sound: it changes no level, for any rate, blocks and channel.

The offset is subtracted before the filters. The exact levels are those of
the spectrum of the same sound, weighted by the formulas of IEC 61672-1 annex E.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.levels import weighting
from tests.support.metering import metered, overall, sine

#: Maximum effect of an offset, in dB.
LIMIT_DB = 0.1
#: Deviation of white noise from its exact level without an offset, due to the filters.
FILTERS_DB = 0.15

OFFSETS = (0.05, 0.3, -0.3, 0.0005)


def hiss(rate_hz: int, *, seconds: float = 3.0, rms: float = 0.0005) -> NDArray[np.float64]:
    """Return white noise without a constant part."""
    sound = np.random.default_rng(rate_hz).normal(0, rms, round(rate_hz * seconds))
    return np.asarray(sound - sound.mean())


def answers(sound: NDArray[np.float64], rate_hz: int) -> dict[str, float | None]:
    """Return all figures of a recording: levels, percentiles and third octaves."""
    totals = metered(sound, rate_hz, third_octaves=True)[1]
    bands = {f"{band['nominal_hz']} Hz": band["lzeq_db"] for band in totals.third_octaves() or []}
    return totals.overall_db() | totals.percentiles_db() | bands


def exact_db(sound: NDArray[np.float64], rate_hz: int, *, letter: str) -> float:
    """Return the Leq of a sound by the analogue weighting of its spectrum, A or C."""
    hz = np.fft.rfftfreq(sound.size, 1 / rate_hz)
    power = 2 * np.abs(np.fft.rfft(sound)) ** 2 / sound.size**2
    low, second, third, high = weighting.POLES_HZ

    def gain(at_hz: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        of_c: NDArray[np.floating[Any]] = at_hz**2 / (at_hz**2 + low**2) / (at_hz**2 + high**2)
        if letter == "C":
            return of_c
        between = np.sqrt(at_hz**2 + second**2) * np.sqrt(at_hz**2 + third**2)
        return np.asarray(of_c * at_hz**2 / between)

    weighted = power * (gain(hz) / gain(np.array([1000.0]))) ** 2
    return float(10 * np.log10(weighted[hz >= 5].sum()))


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 96_000])
def test_an_offset_changes_no_level(rate_hz: int) -> None:
    sound = hiss(rate_hz)
    without = answers(sound, rate_hz)
    exact = {f"l{letter.lower()}eq_db": exact_db(sound, rate_hz, letter=letter) for letter in "AC"}
    for offset in OFFSETS:
        found = answers(sound + offset, rate_hz)
        assert found == pytest.approx(without, abs=LIMIT_DB), offset
        for name, exact_level_db in exact.items():
            assert found[name] == pytest.approx(exact_level_db, abs=FILTERS_DB), offset


def test_a_faint_tone_on_an_offset_keeps_its_peak() -> None:
    """The peak of 0.002 is -53.98 dB; with the offset as a step it was -38.97 dB."""
    for phase in np.linspace(0, 1, 8, endpoint=False):
        at_s = np.arange(48_000) / 16_000
        tone = 0.002 * np.sin(2 * np.pi * (1000 * at_s + phase)) + 0.01
        assert overall(tone, 16_000)["lcpeak_db"] == pytest.approx(-53.98, abs=0.4)


def test_every_channel_has_its_own_offset() -> None:
    sound = np.stack([hiss(16_000), hiss(16_000)[::-1], hiss(16_000) * 0.5], axis=1)
    found = answers(sound + np.array([0.3, -0.05, 0.0]), 16_000)
    assert found == pytest.approx(answers(sound, 16_000), abs=LIMIT_DB)


@settings(max_examples=10)
@given(
    offset=st.sampled_from(OFFSETS),
    seconds=st.floats(0.02, 2.5),
    cuts=st.lists(st.integers(0, 40_000), max_size=8),
)
def test_blocks_of_any_size_have_the_same_offset(
    offset: float, seconds: float, cuts: list[int]
) -> None:
    sound = hiss(16_000, seconds=seconds) + offset
    whole, of_whole = metered(sound, 16_000, third_octaves=True)
    cut, of_cut = metered(sound, 16_000, cuts=sorted(cuts), third_octaves=True)
    np.testing.assert_array_equal(cut.mean_square, whole.mean_square)
    assert of_cut.to_json() == of_whole.to_json()


@pytest.mark.parametrize("offset", [0.05, -0.3, 1.0])
def test_an_offset_alone_is_silence(offset: float) -> None:
    found = answers(np.full(32_000, offset), 16_000)
    assert set(found.values()) == {None}


def test_silence_before_a_sound_stays_silence() -> None:
    """Although the sound begins in the first second and has a mean."""
    sound = np.concatenate([np.zeros(8_000), np.abs(sine(16_000, hz=100, seconds=1))])
    series = metered(sound, 16_000)[0]
    assert series.laeq_db(0.0, 0.49) is None
    assert series.laeq_db(0.5, 1.5) is not None


def test_a_sound_late_in_the_first_second_keeps_its_peak() -> None:
    """The mean of a half cycle shifts the quiet before it: 60 dB below the peak."""
    sound = hiss(48_000, seconds=1, rms=1e-5)
    sound[24_000:24_480] += sine(48_000, hz=50, seconds=0.01)
    later = np.concatenate([hiss(48_000, seconds=2, rms=1e-5), sound])
    found, wanted = overall(sound, 48_000), overall(later, 48_000)
    assert found["lcpeak_db"] == pytest.approx(wanted["lcpeak_db"], abs=0.01)
    assert found["lafmax_db"] == pytest.approx(wanted["lafmax_db"], abs=0.01)
