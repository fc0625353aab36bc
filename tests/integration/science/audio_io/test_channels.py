"""The channels that are used: one choice for levels, analysis, training and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.facts.channel_rules import ENERGY_MEAN, LOUDEST
from actors.science import synth
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.prepare import (
    Prepared,
    pcm_to_float,
    prepare,
    read_mono,
    used_channels,
)
from actors.science.detection.chunks import RATE_HZ
from actors.science.errors import NoSuchChannel
from actors.science.levels import channels
from actors.science.levels.meter import LevelMeter
from actors.science.levels.totals import ChannelTotals
from actors.science.plotting import plots
from tests.support.sounds import encoded

Samples = NDArray[np.float32]


def siren(*, rate_hz: int = RATE_HZ, seconds: float = 2.0) -> Samples:
    """Return a siren at a low level [shape=(n,)]."""
    n_samples = round(rate_hz * seconds)
    sound = synth.SOUNDS["siren_sweep"](np.random.default_rng(1), n_samples, rate_hz)
    return (0.05 * sound).astype(np.float32)


def file_of(*each: Samples, rate_hz: int = RATE_HZ) -> io.BytesIO:
    return io.BytesIO(encoded(np.stack(each, axis=1), rate_hz=rate_hz, kind="FLAC"))


def split(
    file: io.BytesIO,
    *,
    used: list[int] | None = None,
    measured: Sequence[ChannelTotals] = (),
    third_octaves: bool = False,
) -> tuple[Prepared, Samples]:
    """Return the result of the split step, and the written audio."""
    pcm = io.BytesIO()
    with open_recording(file) as decoder:
        result = prepare(
            decoder, used=used, measured=measured, write=pcm.write, third_octaves=third_octaves
        )
    return result, pcm_to_float(pcm.getvalue())


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_dead_channel_changes_neither_levels_nor_audio(rate_hz: int) -> None:
    sound = siren(rate_hz=rate_hz)
    noise = np.random.default_rng(1).normal(0, 1e-4, sound.size).astype(np.float32)
    wanted, samples = split(file_of(sound, rate_hz=rate_hz))
    for dead in (np.zeros_like(sound), noise):
        file = file_of(dead, sound, rate_hz=rate_hz)
        first, _ = split(file)
        assert first.totals.used == [0, 1]
        chosen = channels.chosen(ENERGY_MEAN, first.totals.channels)
        assert chosen == used_channels(file, ENERGY_MEAN) == [1]
        found, audio = split(file, used=chosen)
        np.testing.assert_array_equal(audio, samples)
        assert found.totals.overall_db() == wanted.totals.overall_db()
        assert found.levels.to_bytes() == wanted.levels.to_bytes()
        assert found.grid == wanted.grid
        # The second pass chooses the same again.
        assert channels.chosen(ENERGY_MEAN, found.totals.channels) == chosen


@pytest.mark.parametrize("used", [[1], [0, 2]])
def test_a_second_pass_finds_the_same_with_fewer_measurements(
    used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = siren()
    file = file_of(0.4 * sound, np.roll(sound, 900), -sound)
    wanted, audio = split(file, used=used, third_octaves=True)
    measured = []
    meter = LevelMeter.push

    def counted(self: LevelMeter, block: Samples) -> None:
        measured.append(block.shape[1])
        meter(self, block)

    monkeypatch.setattr(LevelMeter, "push", counted)
    found, again = split(
        file, used=used, measured=split(file)[0].totals.channels, third_octaves=True
    )
    assert measured[-1] == len(used)
    np.testing.assert_array_equal(again, audio)
    assert found.levels.to_bytes() == wanted.levels.to_bytes()
    assert found.totals.to_json() == wanted.totals.to_json()


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_training_reads_what_the_split_step_writes(rate_hz: int) -> None:
    sound = siren(rate_hz=rate_hz)
    file = file_of(0.4 * sound, 0 * sound, -sound, rate_hz=rate_hz)
    for option in (ENERGY_MEAN, LOUDEST, "1"):
        _, wanted = split(file, used=used_channels(file, option))
        found = np.concatenate(list(read_mono(file, channel=option)))
        np.testing.assert_allclose(found, wanted, atol=2**-15)
    with pytest.raises(NoSuchChannel):
        next(read_mono(file, channel="4"))


def test_the_audio_before_a_time_decides() -> None:
    sound = siren(seconds=4.0)
    late = np.where(np.arange(sound.size) < 2 * RATE_HZ, 0, sound).astype(np.float32)
    assert used_channels(file_of(sound, late), ENERGY_MEAN) == [0, 1]
    assert used_channels(file_of(sound, late), ENERGY_MEAN, until_s=2.0) == [0]


def test_a_clip_and_a_recording_are_drawn_of_what_is_analysed() -> None:
    sound = siren()
    both = np.stack([sound, -sound, 0 * sound], axis=1)
    first, third, alone, unknown = (
        plots.draw_clip(each, RATE_HZ, used=used, event_s=(0.5, 1.0), title="Siren")
        for each, used in ((both, [0]), (both, [2]), (sound[:, None], [0]), (sound[:, None], []))
    )
    assert first == alone == unknown
    # What was analysed is drawn, although this channel is silent in the clip.
    assert third != first
    drawn = [plots.draw(file_of(*each), [], title="") for each in ([sound], [0 * sound, sound])]
    assert drawn[0] == drawn[1]
