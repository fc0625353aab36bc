"""Loud intervals: sections that stand out from the surrounding level."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection.chunks import STEP_S
from actors.science.detection.loud_unknown import (
    HOLD_DB,
    PRE_TRIGGER_S,
    SHORTEST_S,
    TRIGGER_DB,
    background_db,
    find,
)
from actors.science.levels.levels import STEPS_PER_S, LevelHistory


def levels(level_db: Sequence[float]) -> LevelHistory:
    mean_square = np.power(10.0, np.array(level_db) / 10).astype(np.float32)
    mean_square = np.repeat(mean_square, round(STEP_S * STEPS_PER_S))
    return LevelHistory(8_000, 800 * len(level_db), mean_square, 2 * mean_square)


def over_noise(*parts: tuple[int, int, float], n_steps: int = 400, seed: int = 0) -> LevelHistory:
    """Return steady noise around -60 dB with ``(first frame, frames, dB above it)`` parts."""
    level_db = -60.0 + np.random.default_rng(seed).normal(0, 0.5, n_steps)
    for first, length, above_db in parts:
        level_db[first : first + length] = -60.0 + above_db
    return levels(level_db.tolist())


@given(first=st.integers(0, 395), length=st.integers(3, 60), above_db=st.floats(15.0, 50.0))
def test_a_burst_over_steady_noise_is_found(first: int, length: int, above_db: float) -> None:
    length = min(length, 400 - first)
    (burst,) = find(over_noise((first, length, above_db)))
    assert burst.start_s == pytest.approx(max(0.0, first * STEP_S - PRE_TRIGGER_S))
    assert burst.end_s == pytest.approx((first + length) * STEP_S)
    assert burst.share == pytest.approx(1 - 10 ** (-above_db / 10), abs=0.02)


@pytest.mark.parametrize("level_db", [-300.0, -80.0, -50.0, -3.0, 30.0])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 600])
def test_what_is_steady_is_background_however_loud(level_db: float, n_steps: int) -> None:
    assert find(levels([level_db] * n_steps)) == []


def test_noise_that_sways_a_little_is_background() -> None:
    for seed in range(5):
        assert find(over_noise(seed=seed, n_steps=1_000)) == []


def test_nothing_has_no_loud_stretches() -> None:
    assert find(levels([])) == []
    assert background_db(np.zeros(0)).size == 0


def test_what_is_below_the_trigger_is_not_loud() -> None:
    assert find(over_noise((100, 20, TRIGGER_DB - 3))) == []
    assert len(find(over_noise((100, 20, TRIGGER_DB + 3)))) == 1


def test_a_stretch_goes_on_while_the_level_holds() -> None:
    """The decay from the trigger level down to the hold level belongs to it, the rest does not."""
    tail = (110, 20, HOLD_DB + 2.0)
    (held,) = find(over_noise((100, 10, 20.0), tail))
    assert held.end_s == pytest.approx(13.0)
    (let_go,) = find(over_noise((100, 10, 20.0), (110, 20, HOLD_DB - 3.0)))
    assert let_go.end_s == pytest.approx(11.0)
    assert find(over_noise(tail)) == []


@given(dip=st.integers(1, 8))
def test_a_brief_dip_is_part_of_the_stretch(dip: int) -> None:
    found = find(over_noise((100, 10, 20.0), (110 + dip, 10, 20.0)))
    assert len(found) == (1 if dip < 3 else 2)
    assert found[-1].end_s == pytest.approx((120 + dip) * STEP_S)


@pytest.mark.parametrize(("length", "is_found"), [(1, False), (2, False), (3, True)])
def test_stretches_that_are_too_short_are_none(length: int, is_found: bool) -> None:
    for first in range(100, 140):
        assert bool(find(over_noise((first, length, 30.0)))) == is_found


def test_digital_silence_is_not_what_rounding_noise_stands_out_from() -> None:
    assert find(levels([-300.0] * 100 + [-90.0] * 20 + [-300.0] * 100)) == []
    (found,) = find(levels([-300.0] * 100 + [-50.0] * 20 + [-300.0] * 100))
    assert found.end_s == pytest.approx(12.0)


def test_nothing_stands_out_from_a_level_below_silence() -> None:
    clicks = levels([-90.0] * 100 + [-60.0] * 20 + [-90.0] * 100)
    assert len(find(clicks)) == 1
    assert find(clicks, quiet_db=-48.0) == []


def test_the_share_is_that_of_the_energy_above_the_background() -> None:
    """Half the interval is 20 dB above the background, half of it 10 dB: 1 - 1 / 55."""
    (found,) = find(levels([-60.0] * 200 + [-40.0] * 10 + [-50.0] * 10 + [-60.0] * 200))
    assert found.share == pytest.approx(1 - 1 / 55, abs=1e-3)


@given(level_db=st.lists(st.floats(-120.0, 20.0), max_size=150))
def test_stretches_keep_their_promises_whatever_the_levels(level_db: list[float]) -> None:
    found = find(levels(level_db))
    assert all(before.end_s <= after.start_s for before, after in pairwise(found))
    for each in found:
        assert 0 <= each.start_s < each.end_s <= len(level_db) * STEP_S + 1e-9
        assert each.end_s - each.start_s >= SHORTEST_S - 1e-9
        assert 0 < each.share < 1
        assert (each.start_s, each.end_s) == (round(each.start_s, 1), round(each.end_s, 1))


@given(level_db=st.lists(st.floats(-70.0, 0.0), min_size=1, max_size=150), gain=st.floats(0, 40))
def test_gain_changes_nothing_above_the_floor(level_db: list[float], gain: float) -> None:
    plain, louder = find(levels(level_db)), find(levels([each + gain for each in level_db]))
    margins = np.array(level_db) - background_db(np.array(level_db))
    if np.abs(margins[:, None] - [HOLD_DB, TRIGGER_DB]).min() > 1e-3:
        assert [(e.start_s, e.end_s) for e in louder] == [(e.start_s, e.end_s) for e in plain]
