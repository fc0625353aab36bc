"""The levels of events and of their backgrounds, against closed forms and IEC 61672-1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels import event_levels
from actors.science.levels.event_levels import Interval, fast_weighted, measured
from actors.science.levels.levels import STEPS_PER_S, LevelHistory, step_starts
from actors.science.types import Event
from tests.support.metering import metered, overall, rows, sine

RATE_HZ = 16_000
MORE = ("lae_db", "lasmax_db", "lcpeak_db", "background_la90_db", "emergence_db")


def noise(level_db: float, seconds: float, *, seed: int = 1) -> NDArray[np.float64]:
    """Return a steady noise of about this A-weighted level, dB re full scale."""
    tone = sine(RATE_HZ, hz=1000, seconds=seconds, peak=math.sqrt(2) * 10 ** (level_db / 20))
    hiss = np.random.default_rng(seed).normal(0, 1e-6, tone.size)
    return tone + hiss


def at(start_s: float, end_s: float, noise_type: str = "siren") -> Event:
    return Event(start_s, end_s, noise_type, 0.9, None, None)


def answers(
    samples: NDArray[np.float64],
    *found: Event,
    unheard: Sequence[Interval] = (),
    cuts: Sequence[int] = (),
) -> list[Event]:
    levels, totals = metered(samples, RATE_HZ, cuts=cuts)
    events = [
        replace(
            event,
            laeq_db=levels.laeq_db(event.start_s, event.end_s),
            lafmax_db=levels.lafmax_db(event.start_s, event.end_s),
        )
        for event in found
    ]
    return measured(events, levels, totals, unheard=unheard)


def test_a_tone_on_a_background_has_the_levels_of_the_closed_forms() -> None:
    sound = np.concatenate([noise(-60, 20), noise(-30, 4), noise(-60, 4)])
    [event] = answers(sound, at(20, 24))
    assert event.laeq_db == pytest.approx(-30, abs=0.02)
    assert event.lae_db == pytest.approx(-30 + 10 * math.log10(4), abs=0.02)
    # S has risen for four time constants.
    assert event.lasmax_db == pytest.approx(-30 + 10 * math.log10(1 - math.exp(-4)), abs=0.02)
    # The onset of the tone is louder than the tone.
    assert event.lcpeak_db == pytest.approx(-30 + 3.01, abs=1.0)
    assert event.background_la90_db == pytest.approx(-60, abs=0.02)
    assert event.emergence_db == pytest.approx(30, abs=0.04)
    # F exceeds -57 dB after a millisecond, at the end of the first step.
    assert event.above_background_s == pytest.approx(4.0, abs=0.011)


def test_a_faint_event_is_above_its_background_where_it_adds_as_much() -> None:
    """It is 2.5 dB above it for two seconds, and 4 dB above it for one."""
    sound = np.concatenate([noise(-50, 20), noise(-47.5, 2), noise(-46, 1), noise(-50, 4)])
    [event] = answers(sound, at(20, 25))
    # F rises above 3 dB within two time constants, and falls below it after less than one.
    assert event.laeq_db is not None
    assert event.above_background_s == pytest.approx(1.0, abs=0.15)
    assert event.emergence_db == pytest.approx(event.laeq_db + 50, abs=0.02)


@pytest.mark.parametrize("row", rows("iec61672_tonebursts_4khz.csv"), ids=lambda r: r["burst_ms"])
def test_tone_bursts_keep_class_1(row: dict[str, float]) -> None:
    rate_hz = 48_000
    steady_db = overall(sine(rate_hz, hz=4000, seconds=8), rate_hz)["lasmax_db"]
    burst_s = row["burst_ms"] / 1000
    silence = np.zeros(rate_hz)
    sound = np.concatenate([silence, sine(rate_hz, hz=4000, seconds=burst_s), silence])
    levels, totals = metered(sound, rate_hz)
    end_s = 1.0 + max(0.2, burst_s + 0.1)
    [event] = measured(
        [replace(at(1.0, end_s), laeq_db=levels.laeq_db(1.0, end_s))], levels, totals
    )
    found = {"lae": event.lae_db, "lasmax": event.lasmax_db}
    for name, limits in (("lae", "f_e"), ("lasmax", "s")):
        if (expected := row.get(f"{name}_minus_steady_db")) is not None:
            level_db = found[name]
            assert level_db is not None
            off_db = level_db - steady_db - expected
            assert row[f"class1_lower_{limits}_db"] <= off_db <= row[f"class1_upper_{limits}_db"]


def test_an_event_with_the_maximum_has_the_levels_of_the_recording() -> None:
    sound = np.concatenate([noise(-50, 10), noise(-20.123, 2), noise(-40, 10), noise(-25, 1)])
    whole = overall(sound, RATE_HZ)
    loudest, other = answers(sound, at(10, 12.5), at(22, 23))
    for name in ("lasmax_db", "lcpeak_db"):
        assert getattr(loudest, name) == whole[name]
        assert getattr(other, name) < whole[name]


def test_an_earlier_event_is_no_background_and_a_lasting_one_is() -> None:
    sound = np.concatenate([noise(-60, 10), noise(-30, 25), noise(-60, 6), noise(-20, 2)])
    rain, siren = at(10, 35, "rain"), at(41, 43)
    assert answers(sound, rain, siren)[1].background_la90_db == pytest.approx(-60, abs=0.02)
    # Without the first event, its sound is a part of what precedes the second.
    assert answers(sound, siren)[0].background_la90_db == pytest.approx(-60, abs=0.1)
    lasting, bark = at(10, 35, "rain"), at(30, 31, "dog_bark")
    [_, on_top] = answers(sound, lasting, bark)
    assert on_top.background_la90_db == pytest.approx(-60, abs=0.1)
    long = np.concatenate([noise(-60, 10), noise(-30, 60)])
    [first, second] = answers(long, at(10, 70, "rain"), at(60, 61, "dog_bark"))
    assert first.background_la90_db == pytest.approx(-60, abs=0.02)
    assert second.background_la90_db == pytest.approx(-30, abs=0.02)
    assert second.emergence_db == pytest.approx(0, abs=0.02)
    assert second.above_background_s == 0


@pytest.mark.parametrize(
    ("onset_s", "others", "unheard", "has_background"),
    [
        (6.0, [], [], True),
        (5.9, [], [], False),
        (0.0, [], [], False),
        (20.0, [(1.0, 15.0)], [], True),
        (20.0, [(1.0, 15.1)], [], False),
        (20.0, [], [(1.0, 15.1)], False),
        (20.0, [], [(15.0, 30.0)], True),
        (20.0, [(1.0, 8.0)], [(8.0, 15.1)], False),
    ],
)
def test_five_seconds_of_undisturbed_sound_are_needed(
    onset_s: float,
    others: Sequence[Interval],
    unheard: Sequence[Interval],
    has_background: bool,
) -> None:
    events = [*(at(start_s, end_s, "rain") for start_s, end_s in others), at(onset_s, 21)]
    event = answers(noise(-50, 22), *events, unheard=unheard)[-1]
    assert (event.background_la90_db is not None) == has_background
    assert (event.emergence_db is not None) == has_background
    assert (event.above_background_s is not None) == has_background
    assert event.lae_db is not None


def test_only_the_latest_background_counts() -> None:
    # 40 s at -70 dB, then 30 s at -50 dB.
    sound = np.concatenate([noise(-70, 40), noise(-50, 31), noise(-30, 1)])
    assert answers(sound, at(71, 72))[0].background_la90_db == pytest.approx(-50, abs=0.02)


def test_what_is_older_than_five_minutes_is_no_background() -> None:
    """Not even if there is nothing else: what follows it belongs to another event."""
    squares = np.repeat([1e-7, 1e-5, 1e-3], np.array([60, 300, 1]) * STEPS_PER_S)
    levels = LevelHistory(
        RATE_HZ, 361 * RATE_HZ, squares.astype(np.float32), np.zeros(0, np.float32)
    )
    _, totals = metered(noise(-30, 1), RATE_HZ)
    siren = replace(at(360, 361), laeq_db=-30.0)
    assert measured([siren], levels, totals)[0].background_la90_db is not None
    assert measured([at(60, 359, "rain"), siren], levels, totals)[1].background_la90_db is None


def test_silence_has_no_levels() -> None:
    [event] = answers(np.concatenate([np.zeros(RATE_HZ * 10), noise(-30, 2)]), at(10, 12))
    assert event.lae_db is not None
    assert event.background_la90_db is None
    [event] = answers(np.zeros(RATE_HZ * 10), at(7, 9))
    assert {getattr(event, name) for name in MORE} == {None}


def test_levels_of_an_older_release_lack_what_they_did_not_store() -> None:
    sound = np.concatenate([noise(-60, 10), noise(-30, 2)])
    levels, totals = metered(sound, RATE_HZ)
    old = LevelHistory(RATE_HZ, levels.n_frames, levels.mean_square, levels.fast_max)
    [event] = measured([replace(at(10, 12), laeq_db=-30.0)], old, totals)
    assert (event.lasmax_db, event.lcpeak_db) == (None, None)
    assert event.lae_db == pytest.approx(-27, abs=0.02)
    assert event.emergence_db == pytest.approx(30, abs=0.02)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100])
def test_f_of_steps_is_that_of_samples_within_its_bound(rate_hz: int) -> None:
    """Clicks of up to 60 dB on noise, against the recursion over samples."""
    rng = np.random.default_rng(7)
    squares = rng.normal(0, 0.1, 20 * rate_hz) ** 2
    squares[rng.random(squares.size) < 3 / rate_hz] += rng.choice([0.01, 1.0, 1e4])
    decay = math.exp(-1 / (rate_hz * 0.125))
    bounds = step_starts(0, 20 * STEPS_PER_S, rate_hz=rate_hz)
    exact = signal.lfilter([1 - decay], [1, -decay], squares)[bounds[1:] - 1]
    means = np.add.reduceat(squares, bounds[:-1]) / np.diff(bounds)
    levels = LevelHistory(rate_hz, squares.size, means.astype(np.float32), np.zeros(0, np.float32))
    off_db = 10 * np.log10(fast_weighted(levels) / exact)
    assert np.abs(off_db).max() < 0.18


def test_the_background_is_the_la90_of_the_meter() -> None:
    samples = np.random.default_rng(9).normal(0, 0.01, 31 * RATE_HZ)
    expected_db = metered(samples, RATE_HZ)[1].percentiles_db()["l90_db"]
    sound = np.concatenate([samples, noise(-20, 1)])
    assert answers(sound, at(31, 32))[0].background_la90_db == pytest.approx(expected_db, abs=0.1)


@settings(max_examples=10)
@given(data=st.data())
def test_levels_keep_their_order_and_no_cut_changes_them(data: st.DataObject) -> None:
    seconds = data.draw(st.integers(8, 20))
    rng = np.random.default_rng(seconds)
    loudness = np.repeat(10 ** rng.uniform(-3, -0.5, seconds), RATE_HZ)
    sound = rng.normal(0, 1, loudness.size) * loudness
    times = data.draw(
        st.lists(st.tuples(st.floats(0, seconds - 0.3), st.floats(0.2, 10)), min_size=1, max_size=6)
    )
    events = [
        at(round(start_s, 1), min(round(start_s + length_s, 1), float(seconds)))
        for start_s, length_s in sorted(times)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, sound.size), max_size=6)))
    found = answers(sound, *events)
    assert answers(sound, *events, cuts=cuts) == found
    whole = overall(sound, RATE_HZ)
    for event in found:
        assert event.laeq_db is not None
        assert event.lae_db == pytest.approx(
            event.laeq_db + 10 * math.log10(event.end_s - event.start_s), abs=0.01
        )
        for name in ("lasmax_db", "lcpeak_db"):
            assert getattr(event, name) <= whole[name]
        assert event.lafmax_db is not None
        assert event.lasmax_db is not None
        # The mean of F over an event lacks at most what F holds at its end, which is no more than
        # its maximum for one time constant; the same is true of S.
        length_s = event.end_s - event.start_s
        for level_db, tau_s in ((event.lafmax_db, 0.125), (event.lasmax_db, 1.0)):
            assert level_db >= event.laeq_db - 10 * math.log10(1 + tau_s / length_s) - 0.05
        if event.background_la90_db is not None:
            assert event.above_background_s is not None
            assert 0 <= event.above_background_s <= event.end_s - event.start_s + 1e-4
            assert event.emergence_db == event.laeq_db - event.background_la90_db


def test_many_events_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(8).normal(0, 0.01, 40 * RATE_HZ)
    events = [at(start_s, start_s + 0.5) for start_s in range(10, 38)]
    found = answers(sound, *events)
    monkeypatch.setattr(event_levels, "_BLOCK", 7)
    assert answers(sound, *events) == found
