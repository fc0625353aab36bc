"""Band levels over time: against the bands of the whole, closed forms, and themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.facts.third_octaves import FIRST_BAND, NOMINAL_HZ, exact_hz
from actors.science.levels import bands
from actors.science.levels.band_history import BandHistory
from actors.science.levels.bands import BandMeter
from actors.science.levels.levels import LevelDataError, LevelHistory, step_start
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import Totals, to_db
from actors.science.types import Hole, HoleKind

RATES_HZ = (8_000, 11_025, 44_100)
RATE_HZ = 16_000


def measured(
    samples: NDArray[np.floating[Any]],
    rate_hz: int = RATE_HZ,
    *,
    cuts: Sequence[int] = (),
    holes: Sequence[Hole] = (),
    used: Sequence[int] | None = None,
) -> tuple[BandHistory, Totals, LevelHistory]:
    block = samples.astype(np.float32)
    block = block[:, None] if block.ndim == 1 else block
    meter = LevelMeter(rate_hz=rate_hz, n_channels=block.shape[1], third_octaves=True, used=used)
    meter.holes = holes
    for part in np.split(block, list(cuts)):
        meter.push(part)
    levels, history = meter.finish(), meter.band_history()
    assert history is not None
    return history, meter.totals(), levels


def noise(seconds: float, *, rate_hz: int = RATE_HZ, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.05, round(seconds * rate_hz))


def energy(history: BandHistory, start_s: float, end_s: float) -> NDArray[np.float64]:
    """Return mean square times seconds of each band."""
    levels_db = history.leq_db(start_s, end_s)
    return np.array([0 if level is None else 10 ** (level / 10) for level in levels_db]) * (
        end_s - start_s
    )


def test_steps_are_every_tenth_one_of_the_levels() -> None:
    for rate_hz in RATES_HZ:
        starts = bands.step_starts(0, 99, rate_hz=rate_hz)
        assert starts.tolist() == [step_start(10 * k, rate_hz=rate_hz) for k in range(100)]
        for n_frames in (0, 1, int(starts[7]), int(starts[7]) + 1):
            assert bands.count_steps(n_frames, rate_hz=rate_hz) == int((starts < n_frames).sum())


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_burst_has_its_level_in_its_band(rate_hz: int) -> None:
    """Of a second, which begins and ends with a step, in silence."""
    at_s = np.arange(4 * rate_hz) / rate_hz
    for hz, most_db in ((1_000, 0.02), (250, 0.05), (100, 0.1), (25, 0.3)):
        midband_hz = exact_hz(band_at(hz))
        burst = np.where((at_s >= 1.5) & (at_s < 2.5), np.sin(2 * np.pi * midband_hz * at_s), 0)
        history = measured(0.5 * burst, rate_hz)[0]
        level_db = history.leq_db(1.5, 2.5)[band_at(hz) - FIRST_BAND]
        assert level_db == pytest.approx(to_db(0.125), abs=most_db), hz


def band_at(nominal_hz: float) -> int:
    return next(band for band, hz in NOMINAL_HZ.items() if hz == nominal_hz)


@pytest.mark.parametrize("start_s", [1.53, 1.55, 1.57])
def test_an_edge_within_a_step_costs_at_most_what_the_step_holds_outside(start_s: float) -> None:
    """At each edge the level of the step is its mean: 25 ms of 1 s are lost at most."""
    at_s = np.arange(4 * RATE_HZ) / RATE_HZ
    burst = np.where((at_s >= start_s) & (at_s < start_s + 1), np.sin(2 * np.pi * 1_000 * at_s), 0)
    level_db = measured(0.5 * burst)[0].leq_db(start_s, start_s + 1)[30 - FIRST_BAND]
    assert level_db is not None
    assert -0.24 <= level_db - 10 * np.log10(0.125) <= 0.0


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("n_more", [0, 1, 777])
def test_intervals_add_up_to_the_whole(rate_hz: int, n_more: int) -> None:
    samples = noise(3 + n_more / rate_hz, rate_hz=rate_hz)
    samples *= np.linspace(0.1, 1, samples.size)
    history, totals, _ = measured(samples, rate_hz)
    assert totals.band_mean_squares is not None
    end_s = samples.size / rate_hz
    edges_s = [0.0, 0.43, 0.5, 1.234, 2.9, end_s]
    total = np.sum([energy(history, *edges_s[k : k + 2]) for k in range(5)], axis=0)
    whole = np.array(list(totals.band_mean_squares.values())) * end_s
    assert 10 * np.log10(total / whole) == pytest.approx(0, abs=0.01)
    assert energy(history, 0, end_s) == pytest.approx(total, rel=1e-3)


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 33_000), max_size=8).map(sorted))
def test_the_division_into_blocks_changes_nothing(cuts: list[int]) -> None:
    samples = np.stack([noise(2.06), noise(2.06, seed=2)], axis=1)
    assert measured(samples, cuts=cuts)[0].to_bytes() == measured(samples)[0].to_bytes()


def test_blocks_that_are_shorter_than_a_step_change_nothing() -> None:
    """A meter of many channels has such blocks."""
    samples, energies = noise(2.06, rate_hz=11_025), []
    for n_block in (samples.size, 777):
        meter, found = BandMeter(rate_hz=11_025), []
        for begin in range(0, samples.size, n_block):
            meter.push(samples[begin : begin + n_block])
            found.append(meter.take_steps())
        energies.append(np.concatenate([*found, meter.finish()]))
    assert energies[0].shape == (21, len(bands.bands_at(11_025)))
    assert energies[1] == pytest.approx(energies[0], rel=1e-9)


def test_only_the_used_channels_count() -> None:
    loud, faint = noise(1), 0.01 * noise(1, seed=3)
    both = np.stack([loud, faint], axis=1)
    assert measured(both, used=[1])[0].to_bytes() == measured(faint)[0].to_bytes()
    mean_db, loud_db = (measured(each)[0].leq_db(0, 1) for each in (both, loud))
    assert np.array(mean_db, float) == pytest.approx(np.array(loud_db, float) - 3.01, abs=0.02)


def test_holes_count_in_no_mean() -> None:
    samples = noise(4)
    hole = Hole(RATE_HZ + 123, 2 * RATE_HZ, HoleKind.GAP)
    whole = measured(samples)[0].leq_db(0, 4)
    samples[hole.start : hole.stop] = 0
    history, totals, _ = measured(samples, holes=[hole])
    excluded = np.array([[hole.start, hole.stop]])
    found = history.leq_db(0, 4, holes=excluded)
    upper = slice(16, None)  # From 1 kHz on, where chance matters little.
    assert np.array(found[upper], float) == pytest.approx(np.array(whole[upper], float), abs=0.3)
    assert totals.band_mean_squares is not None
    of_totals = 10 * np.log10(list(totals.band_mean_squares.values()))
    assert np.array(found, float) == pytest.approx(of_totals, abs=0.01)
    assert set(history.leq_db(hole.start / RATE_HZ, 1.9, holes=excluded)) == {None}


def test_the_bands_of_an_interval_add_up_to_its_level() -> None:
    """To that of white noise, except for what is above the highest band."""
    samples = np.concatenate([0.1 * noise(1), noise(1), 0.1 * noise(1)])
    total = np.sum(energy(measured(samples)[0], 1, 2))
    highest_hz = exact_hz(bands.bands_at(RATE_HZ)[-1]) * bands.HALF_BAND
    assert total == pytest.approx(0.05**2 * highest_hz / (RATE_HZ / 2), rel=0.05)


def test_silence_and_times_without_audio_have_no_level() -> None:
    history = measured(np.zeros(RATE_HZ))[0]
    assert set(history.leq_db(0, 1)) == {None}
    loud = measured(noise(1))[0]
    assert set(loud.leq_db(1, 2)) == set(loud.leq_db(0.5, 0.5)) == {None}
    assert len(loud.leq_db(0.2, 0.3)) == len(bands.bands_at(RATE_HZ))


def test_a_recording_of_one_sample_has_a_step() -> None:
    history = measured(np.array([0.5]))[0]
    assert history.levels.shape == (1, len(bands.bands_at(RATE_HZ)))


def test_they_are_stored_and_read_again() -> None:
    history = measured(noise(1.05))[0]
    data = history.to_bytes()
    again = BandHistory.from_bytes(data)
    assert (again.rate_hz, again.n_frames) == (history.rate_hz, history.n_frames)
    assert np.array_equal(again.levels, history.levels)
    for damaged in (
        b"",
        data[:-1],
        data + b"\0",
        b"XXXX" + data[4:],
        data[:10] + bytes(4) + data[14:],
    ):
        with pytest.raises(LevelDataError):
            BandHistory.from_bytes(damaged)
