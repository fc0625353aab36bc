"""Holes in a recording, and the levels of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.levels import event_levels, indications, recorded
from actors.science.levels.levels import LevelHistory
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import Totals
from actors.science.types import Event, Hole, HoleKind
from tests.support.metering import sine

RATE_HZ = 8_000


def metered(
    samples: NDArray[np.float64], *holes: tuple[float, float], cuts: Sequence[int] = ()
) -> tuple[LevelHistory, Totals]:
    """Return both results of the meter for a recording with holes, in seconds."""
    block = samples.astype(np.float32)[:, None]
    meter = LevelMeter(rate_hz=RATE_HZ, n_channels=1)
    frames = [(round(start_s * RATE_HZ), round(end_s * RATE_HZ)) for start_s, end_s in holes]
    meter.holes = [Hole(*each, HoleKind.GAP) for each in frames]
    for each in frames:
        block[slice(*each)] = 0.0
    for part in np.split(block, cuts):
        meter.push(part)
    return meter.finish(), meter.totals()


def tone(seconds: float, *, level_db: float = -20.0) -> NDArray[np.float64]:
    peak = math.sqrt(2) * 10 ** (level_db / 20)
    return sine(RATE_HZ, hz=1000, seconds=seconds, peak=peak)


@pytest.mark.parametrize("offset", [0.0, 0.05])
@pytest.mark.parametrize("hole", [(0, 20_000), (12_345, 40_000), (16_000, 16_001), (3, 4_000)])
def test_holes_count_in_no_average_and_no_distribution(
    hole: tuple[int, int], offset: float
) -> None:
    """The levels are those of the sound before and after the hole."""
    rate_hz = 8_000
    samples = 0.01 * np.random.default_rng(0).normal(size=(12 * rate_hz, 1)).astype(np.float32)
    samples += np.float32(offset)
    whole = LevelMeter(rate_hz=rate_hz, n_channels=1)
    whole.push(samples)
    whole.finish()
    samples[slice(*hole)] = 0.0
    found = []
    for cuts in ([], list(range(0, len(samples), 777))):
        meter = LevelMeter(rate_hz=rate_hz, n_channels=1)
        meter.holes = [Hole(*hole, HoleKind.GAP)]
        for part in np.split(samples, cuts):
            meter.push(part)
        meter.finish()
        found.append(meter.totals())
    totals, cut = found
    wanted = whole.totals()
    assert totals.overall_db(0.0) == cut.overall_db(0.0)
    assert totals.duration_s == pytest.approx((len(samples) - hole[1] + hole[0]) / rate_hz)
    for name, level_db in totals.overall_db(0.0).items():
        if name in ("laeq_db", "lceq_db", "lzeq_db", "lafmin_db"):
            assert level_db == pytest.approx(wanted.overall_db(0.0)[name], abs=0.3), name
    # Edges do not click.
    assert totals.c_peak <= 1.1 * wanted.c_peak
    for name, level_db in totals.percentiles_db(0.0).items():
        assert level_db == pytest.approx(wanted.percentiles_db(0.0)[name], abs=0.3), name


def test_a_second_without_audio_has_no_level_and_others_that_of_their_audio() -> None:
    levels, totals = metered(tone(8), (2.5, 5.25))
    mean_square, fast_max = levels.seconds()
    assert (mean_square == 0).tolist() == [False, False, False, True, True, False, False, False]
    assert (fast_max == 0).tolist() == (mean_square == 0).tolist()
    np.testing.assert_allclose(10 * np.log10(mean_square[mean_square > 0]), -20, atol=0.05)
    wanted_s = [1, 1, 0.5, 0, 0, 0.75, 1, 1]
    assert levels.recorded_steps(step_s=1.0).tolist() == pytest.approx(wanted_s)
    assert (levels.duration_s, levels.recorded_s) == (8.0, 5.25)
    assert levels.laeq_db() == pytest.approx(totals.overall_db()["laeq_db"], abs=1e-5)
    # An interval over a hole has the level of the rest, and one inside has none.
    assert levels.laeq_db(2.0, 6.0) == pytest.approx(-20, abs=0.05)
    assert (levels.laeq_db(3.0, 5.0), levels.lafmax_db(3.0, 5.0)) == (None, None)
    on_grid = levels.on_grid(step_s=4.0, lead_s=1.0)
    np.testing.assert_allclose(10 * np.log10(on_grid), -20, atol=0.05)


@given(
    holes=st.lists(st.tuples(st.integers(0, 23_000), st.integers(1, 6_000)), max_size=5),
    step_s=st.sampled_from([0.1, 0.37, 1.0]),
    lead_s=st.floats(0, 0.9),
)
def test_no_energy_is_in_a_hole_and_none_is_lost(
    holes: list[tuple[int, int]], step_s: float, lead_s: float
) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 3 * RATE_HZ)
    is_hole = np.zeros(samples.size, dtype=np.bool_)
    for at, n_frames in holes:
        is_hole[at : at + n_frames] = True
    # Those of a decoder do not overlap.
    edges = np.flatnonzero(np.diff(is_hole, prepend=False, append=False)).reshape(-1, 2)
    levels, totals = metered(samples, *(edges / RATE_HZ).tolist())
    assert levels.recorded_s == pytest.approx(np.count_nonzero(~is_hole) / RATE_HZ)
    assert totals.duration_s == pytest.approx(levels.recorded_s)
    energy = totals.a_mean_square * totals.duration_s
    bounds_s = np.clip(np.arange(40) * step_s - lead_s, 0, levels.duration_s)
    curve = levels.energy_curve()
    assert np.diff(curve.until(bounds_s)).sum() == pytest.approx(energy, rel=1e-5)
    lengths = np.diff(recorded.frames_until(bounds_s * RATE_HZ, levels.holes))
    found = curve.mean_squares(bounds_s)
    assert float(found @ lengths) / RATE_HZ == pytest.approx(energy, rel=1e-5)
    assert (found[lengths == 0] == 0).all()
    # Noise has about the same level in any hundredth of a second, also of an interval cut short.
    assert found[lengths >= RATE_HZ / 100].max(initial=0.0) < 3 * 0.1**2
    again = LevelHistory.from_bytes(levels.to_bytes())
    np.testing.assert_array_equal(again.holes, levels.holes)
    assert again.to_bytes() == levels.to_bytes()


@pytest.mark.parametrize("holes", [[(0.0, 1.5)], [(0.5, 2.503), (2.6, 2.601)]])
def test_levels_around_holes_do_not_depend_on_the_blocks(holes: list[tuple[float, float]]) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, 4 * RATE_HZ)
    levels, totals = metered(samples, *holes)
    cut, of_cut = metered(samples, *holes, cuts=list(range(0, samples.size, 777)))
    assert cut.to_bytes() == levels.to_bytes()
    assert of_cut.to_json() == totals.to_json()


def test_a_hole_is_no_background() -> None:
    sound = np.concatenate([tone(20, level_db=-60), tone(4, level_db=-30)])

    def answer(*holes: tuple[float, float]) -> Event:
        levels, totals = metered(sound, *holes)
        found = [Event(20.0, 24.0, "siren", 0.9, levels.laeq_db(20.0, 24.0), None)]
        return event_levels.measured(found, levels, totals)[0]

    assert answer((3.0, 12.0)).background_la90_db == pytest.approx(-60, abs=0.05)
    # Less than five seconds are left.
    assert answer((2.0, 15.5)).background_la90_db is None
    whole, with_hole = answer(), answer((21.0, 23.0))
    assert with_hole.laeq_db == pytest.approx(-30, abs=0.1)
    assert whole.lae_db == pytest.approx(event_lae_db(with_hole) + 10 * math.log10(2), abs=0.1)


def event_lae_db(event: Event) -> float:
    assert event.lae_db is not None
    return event.lae_db


def test_the_overloaded_time_is_recorded_time() -> None:
    levels, _ = metered(tone(3), (1.005, 2.0))
    assert levels.overloaded is not None
    overloaded = levels.overloaded.copy()
    overloaded[90:101] = True
    marked = LevelHistory(
        levels.rate_hz,
        levels.n_frames,
        levels.mean_square,
        levels.fast_max,
        overloaded=overloaded,
        holes=levels.holes,
    )
    found = indications.overloaded_time(marked)
    assert found is not None
    assert found.total_s == pytest.approx(0.105)
    seconds = indications.overloaded_steps(marked, step_s=1.0)
    assert seconds is not None
    assert seconds.tolist() == pytest.approx([0.1, 0.005, 0.0])
    shares = indications.overload_on_grid(marked, step_s=3.0, lead_s=0.0)
    assert shares is not None
    assert shares.time.tolist() == pytest.approx([0.105 / 2.005])
