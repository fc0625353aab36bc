"""The states of channels, the choice between them, and the levels of the chosen ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.facts.channel_rules import ENERGY_MEAN, LOUDEST
from actors.science.errors import NoSuchChannel
from actors.science.levels import channels
from actors.science.levels.channels import IDENTICAL, INVERTED, LIVE, SILENT
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import Totals
from tests.support.metering import metered, overall

RATE_HZ = 16_000

Samples = NDArray[np.float32]


def hiss(seed: int, *, db: float = -30.0, seconds: float = 3.0) -> Samples:
    """Return noise at a level."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 10 ** (db / 20), round(seconds * RATE_HZ)).astype(np.float32)


SOUND, OTHER, NOTHING = hiss(1), hiss(2), np.zeros(3 * RATE_HZ, dtype=np.float32)


def totals_of(*each: Samples, used: list[int] | None = None) -> Totals:
    block = np.stack(each, axis=1)
    meter = LevelMeter(rate_hz=RATE_HZ, n_channels=len(each), third_octaves=True, used=used)
    meter.push(block)
    meter.finish()
    return meter.totals()


def states(*each: Samples) -> list[tuple[str, int | None]]:
    return [(channel.state, channel.other) for channel in totals_of(*each).channels]


@pytest.mark.parametrize("noise_db", [-300.0, -96.0, -80.0, -65.0])
def test_an_input_without_a_microphone_is_silent(noise_db: float) -> None:
    assert states(SOUND, hiss(3, db=noise_db)) == [(LIVE, None), (SILENT, None)]
    assert states(hiss(3, db=noise_db), SOUND) == [(SILENT, None), (LIVE, None)]


def test_an_offset_and_hum_do_not_make_a_channel_live() -> None:
    times_s = np.arange(SOUND.size) / RATE_HZ
    hum = (0.003 * np.sin(2 * np.pi * 50 * times_s) + 0.2).astype(np.float32)
    assert states(SOUND, hum) == [(LIVE, None), (SILENT, None)]


@pytest.mark.parametrize("below_db", [6.0, 20.0, 26.0])
def test_a_safety_track_is_live_or_a_copy(below_db: float) -> None:
    assert states(SOUND, hiss(3, db=-30 - below_db))[1] == (LIVE, None)
    gain = np.float32(10 ** (-below_db / 20))
    assert states(SOUND, gain * SOUND)[1] == (LIVE, None)


def test_copies_refer_to_the_first_of_them() -> None:
    assert states(NOTHING, SOUND, OTHER, -0.5 * SOUND, SOUND, -OTHER) == [
        (SILENT, None),
        (LIVE, None),
        (LIVE, None),
        (INVERTED, 1),
        (IDENTICAL, 1),
        (INVERTED, 2),
    ]
    assert states(SOUND, SOUND + hiss(3, db=-65))[1] == (IDENTICAL, 0)
    assert states(SOUND, -SOUND + hiss(3, db=-45))[1] == (INVERTED, 0)
    assert states(SOUND, 0.9 * SOUND + hiss(3, db=-45))[1] == (LIVE, None)


def test_silence_has_silent_channels_and_uses_all() -> None:
    silence = totals_of(NOTHING, NOTHING)
    assert [each.state for each in silence.channels] == [SILENT, SILENT]
    for option in (ENERGY_MEAN, "2", LOUDEST):
        assert channels.chosen(option, silence.channels)
    assert channels.chosen(ENERGY_MEAN, silence.channels) == [0, 1]


def test_the_option_chooses() -> None:
    found = totals_of(0.5 * SOUND, NOTHING, OTHER, -0.5 * SOUND).channels
    assert channels.chosen(ENERGY_MEAN, found) == [0, 2, 3]
    assert channels.chosen(LOUDEST, found) == [2]
    assert channels.chosen("2", found) == [1]
    assert channels.assumed("4", n_channels=4) == [3]
    assert channels.assumed(LOUDEST, n_channels=3) == [0, 1, 2]
    for n_channels in (1, 4):
        with pytest.raises(NoSuchChannel, match=f"has {n_channels} channel"):
            channels.assumed("5", n_channels=n_channels)


def test_the_loudest_is_so_by_a_weighted_energy() -> None:
    rumble = 0.5 * np.sin(2 * np.pi * 30 * np.arange(SOUND.size) / RATE_HZ)
    found = totals_of(rumble.astype(np.float32), SOUND).channels
    assert found[0].z_mean_square > found[1].z_mean_square
    assert channels.chosen(LOUDEST, found) == [1]


@pytest.mark.parametrize("used", [[0], [1], [0, 2]])
def test_the_levels_are_those_of_the_used_channels_alone(used: list[int]) -> None:
    each = [SOUND, 0.3 * OTHER, np.float32(1.5) * OTHER]
    found = totals_of(*each, used=used)
    alone = totals_of(*[each[index] for index in used])
    assert found.used == used
    assert found.overall_db() == alone.overall_db()
    assert found.percentiles_db() == alone.percentiles_db()
    assert found.third_octaves() == alone.third_octaves()
    # All channels have levels, whichever are used.
    assert found.channels == totals_of(*each).channels
    for channel, samples in zip(found.channels, each, strict=True):
        level_db = overall(samples, RATE_HZ)
        for name, value in channel.overall_db().items():
            assert value == pytest.approx(level_db[name], abs=1e-9)


def test_one_live_channel_has_the_level_of_mono() -> None:
    for each in ([NOTHING, SOUND], [NOTHING] * 5 + [SOUND] + [NOTHING] * 2):
        found = channels.chosen(ENERGY_MEAN, totals_of(*each).channels)
        assert totals_of(*each, used=found).overall_db() == totals_of(SOUND).overall_db()


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=8), share=st.floats(-1.0, 1.0))
def test_any_cut_into_blocks_finds_the_same(cuts: list[int], share: float) -> None:
    block = np.stack([SOUND[:30_000], np.float32(share) * SOUND[:30_000]], axis=1)
    block += np.stack([OTHER[:30_000], hiss(4)[:30_000]], axis=1) / 10
    whole, cut = metered(block, 11_025)[1], metered(block, 11_025, cuts=sorted(cuts))[1]
    assert cut.to_json() == whole.to_json()


def test_channels_survive_storage_and_may_be_missing_from_it() -> None:
    found = totals_of(SOUND, -SOUND, NOTHING, used=[0, 1])
    stored = json.loads(json.dumps(found.to_json(), sort_keys=True, allow_nan=False))
    again = Totals.from_json(stored)
    assert (again.channels, again.used) == (found.channels, found.used)
    old = {name: stored[name] for name in stored if name not in ("channels", "used")}
    former = Totals.from_json(old | {"lone_channel": None})
    assert (former.channels, former.used) == ([], [])
    assert former.overall_db() == found.overall_db()
