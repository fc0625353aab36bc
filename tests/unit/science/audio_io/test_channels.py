"""The analysed channel: the mean of all, or the loudest if they cancel each other."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.audio_io.decode import open_recording
from actors.science.audio_io.prepare import (
    MonoResampler,
    pcm_to_float,
    prepare,
    read_mono,
    write_channel,
)
from actors.science.audio_io.spectrogram import Spectrogram
from actors.science.detection.chunks import RATE_HZ
from actors.science.levels.meter import LevelMeter, lone_channel
from actors.science.plotting import plots
from tests.unit.science.sounds import encoded, noise


def siren(*, rate_hz: int = RATE_HZ, seconds: float = 2.0) -> NDArray[np.float32]:
    """Return a siren at a low level [shape=(n,)]."""
    n_samples = round(rate_hz * seconds)
    sound = synth.SOUNDS["siren_sweep"](np.random.default_rng(1), n_samples, rate_hz)
    return (0.05 * sound).astype(np.float32)


def hiss(n_samples: int, *, rms: float, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, rms, n_samples).astype(np.float32)


def chosen(*channels: NDArray[np.floating[Any]], rate_hz: int = RATE_HZ) -> int | None:
    block = np.stack(channels, axis=1).astype(np.float32)
    return lone_channel([block], rate_hz=rate_hz, n_channels=block.shape[1])


def test_inverted_channels_are_analysed_by_the_louder() -> None:
    sound = siren()
    assert chosen(sound, -0.9 * sound) == 0
    assert chosen(-0.9 * sound, sound) == 1
    assert chosen(sound, -0.5 * sound) == 0


def test_an_offset_or_wind_does_not_hide_that_channels_cancel() -> None:
    sound = siren()
    assert chosen(sound + 0.3, 0.3 - sound) is not None
    rumble = np.cumsum(hiss(sound.size, rms=0.01, seed=2)) / 10
    other = np.cumsum(hiss(sound.size, rms=0.01, seed=3)) / 10
    assert np.var(rumble) > np.var(sound)
    assert chosen(sound + rumble, other - sound) is not None


def test_a_delay_that_cancels_a_tone_is_found() -> None:
    """The delay is half a period between two microphones; a whole period adds up."""
    tone = 0.1 * np.sin(2 * np.pi * 500 * np.arange(2 * RATE_HZ) / RATE_HZ)
    assert chosen(tone[:-16], tone[16:]) is not None
    assert chosen(tone[:-32], tone[32:]) is None


def test_two_inverted_pairs_and_a_faint_channel_are_found() -> None:
    sound, other = siren(), hiss(2 * RATE_HZ, rms=0.01, seed=4)
    assert chosen(sound, 0.5 * other, -sound, -0.5 * other) in (0, 2)
    assert chosen(other, -2 * sound, 2 * sound) in (1, 2)


@pytest.mark.parametrize("n_channels", [2, 3, 8])
def test_channels_that_do_not_cancel_are_mixed(n_channels: int) -> None:
    sound = siren()
    unrelated = [hiss(sound.size, rms=0.05, seed=seed) for seed in range(n_channels)]
    assert chosen(*unrelated) is None
    assert chosen(*[sound + 0.2 * each for each in unrelated]) is None
    assert chosen(*[gain * sound for gain in range(n_channels)]) is None
    assert chosen(*[0 * sound] * n_channels) is None


def test_one_channel_is_itself() -> None:
    assert chosen(siren()) is None


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(0, 24_000), max_size=8), share=st.floats(-1.0, 1.0))
def test_any_cut_into_blocks_chooses_the_same(cuts: list[int], share: float) -> None:
    sound = siren(rate_hz=11_025)
    block = np.stack([sound, np.float32(share) * sound], axis=1)
    block += noise(len(block), n_channels=2) / 100
    whole, cut = (LevelMeter(rate_hz=11_025, n_channels=2) for _ in range(2))
    whole.push(block)
    for part in np.split(block, sorted(cuts)):
        cut.push(part)
    whole.finish()
    cut.finish()
    assert cut.totals().to_json() == whole.totals().to_json()


@settings(max_examples=30)
@given(
    starts=st.lists(st.integers(0, 3_000), min_size=2, max_size=4),
    cuts=st.lists(st.integers(0, 3_000), max_size=5),
)
def test_a_channel_counts_from_its_first_sample(starts: list[int], cuts: list[int]) -> None:
    """The result does not depend on the blocks; a dead channel never counts."""
    sound = noise(3_000, n_channels=len(starts)).astype(np.float32)
    for index, start in enumerate(starts):
        sound[:start, index] = 0.0
    counts = np.cumsum(sound != 0, axis=0) > 0
    wanted = sound.sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
    resampler = MonoResampler(rate_hz=RATE_HZ)
    found = np.concatenate([resampler.push(part) for part in np.split(sound, sorted(cuts))])
    np.testing.assert_allclose(found, wanted, atol=1e-7)
    whole = MonoResampler(rate_hz=RATE_HZ).push(sound)
    np.testing.assert_array_equal(found, whole)


def test_a_dead_channel_does_not_lower_what_is_analysed() -> None:
    sound = siren()
    both = np.stack([np.zeros_like(sound), sound], axis=1)
    pcm = io.BytesIO()
    with open_recording(io.BytesIO(encoded(both, rate_hz=RATE_HZ, kind="FLAC"))) as decoder:
        result = prepare(decoder, write=pcm.write)
    assert result.totals.lone_channel is None
    np.testing.assert_allclose(pcm_to_float(pcm.getvalue()), sound, atol=2**-14)
    # The level stays the mean of the channels' powers.
    assert result.levels.laeq_db() == pytest.approx(
        measured_db(encoded(sound, rate_hz=RATE_HZ, kind="FLAC")) - 3.01, abs=0.01
    )


def measured_db(data: bytes) -> float:
    with open_recording(io.BytesIO(data)) as decoder:
        level_db = prepare(decoder, write=lambda _: None).levels.laeq_db()
    assert level_db is not None
    return level_db


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_the_chosen_channel_is_written_in_place_of_the_mean(rate_hz: int) -> None:
    sound = siren(rate_hz=rate_hz)
    both = np.stack([0.9 * sound, -sound], axis=1)
    file = io.BytesIO(encoded(both, rate_hz=rate_hz, kind="FLAC"))
    pcm, mean = io.BytesIO(), io.BytesIO()
    picture = Spectrogram()
    with open_recording(file) as decoder:
        result = prepare(decoder, write=mean.write)
    channel = result.totals.lone_channel
    assert channel == 1
    with open_recording(file) as decoder:
        write_channel(decoder, channel=channel, write=pcm.write, spectrogram=picture)
    assert len(pcm.getvalue()) == len(mean.getvalue()) == 2 * result.grid.n_samples
    alone = io.BytesIO(encoded(-sound[:, None], rate_hz=rate_hz, kind="FLAC"))
    wanted = np.concatenate(list(read_mono(alone)))
    np.testing.assert_allclose(pcm_to_float(pcm.getvalue()), wanted, atol=2**-14)
    assert picture.finish().max() > -60
    # Training reads a clip in the same way.
    trained = np.concatenate(list(read_mono(file)))
    np.testing.assert_allclose(trained, wanted, atol=2**-14)


def test_a_clip_is_drawn_of_what_is_analysed() -> None:
    sound = siren()
    both = np.stack([sound, -sound], axis=1)
    pictures = [
        plots.draw_clip(each, RATE_HZ, event_s=(0.5, 1.0), title="Siren")
        for each in (both, sound[:, None])
    ]
    assert pictures[0] == pictures[1]
