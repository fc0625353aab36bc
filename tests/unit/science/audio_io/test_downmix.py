"""The mono mix: no cabling loses sound, and what is alike stays as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.science import synth
from actors.science.audio_io import downmix
from actors.science.audio_io.downmix import Downmix

RATE_HZ = 16_000

Samples = NDArray[np.float32]


def siren(*, rate_hz: int = RATE_HZ, seconds: float = 3.0) -> Samples:
    n_samples = round(rate_hz * seconds)
    sound = synth.SOUNDS["siren_sweep"](np.random.default_rng(1), n_samples, rate_hz)
    return (0.05 * sound).astype(np.float32)


def hiss(n_samples: int, *, seed: int, rms: float = 0.05) -> Samples:
    return np.random.default_rng(seed).normal(0, rms, n_samples).astype(np.float32)


def mixed(*each: Samples, rate_hz: int = RATE_HZ, cuts: list[int] | None = None) -> Samples:
    block = np.stack(each, axis=1)
    mix = Downmix(rate_hz=rate_hz, used=range(len(each)))
    parts = [mix.push(part) for part in np.split(block, sorted(cuts or []))]
    return np.concatenate([*parts, mix.finish()])


def delayed(sound: Samples, ms: float, *, rate_hz: int = RATE_HZ) -> Samples:
    n = round(rate_hz * ms / 1_000)
    return np.pad(sound, (n, 0))[: sound.size]


def bands_db(sound: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the level of each 62.5 Hz of the recording."""
    _, power = signal.welch(sound.astype(np.float64), RATE_HZ, nperseg=256)
    return np.asarray(10 * np.log10(power[2:-2]))


@pytest.mark.parametrize("n_channels", [1, 2, 8])
@pytest.mark.parametrize("n_samples", [1, 319, 320, 16_000, 50_001])
def test_channels_that_are_equal_are_passed_on_bit_by_bit(n_channels: int, n_samples: int) -> None:
    sound = hiss(n_samples, seed=1)
    np.testing.assert_array_equal(mixed(*[sound] * n_channels), sound)


def test_a_single_channel_is_passed_on() -> None:
    block = np.stack([hiss(5_000, seed=seed) for seed in range(3)], axis=1)
    mix = Downmix(rate_hz=RATE_HZ, used=[2])
    np.testing.assert_array_equal(mix.push(block), block[:, 2])
    assert not mix.finish().size


@pytest.mark.parametrize("rate_hz", [4_000, 4_007, 11_025, 44_100, 96_000])
def test_an_inverted_channel_cancels_nothing(rate_hz: int) -> None:
    sound = siren(rate_hz=rate_hz)
    np.testing.assert_allclose(mixed(sound, -sound, rate_hz=rate_hz), sound, atol=1e-6)
    gain = np.sqrt((1 + 0.5**2) / 2)
    np.testing.assert_allclose(mixed(sound, -0.5 * sound, rate_hz=rate_hz), gain * sound, atol=1e-6)


def test_channels_that_swap_or_invert_again_and_again_keep_the_level() -> None:
    sound = hiss(6 * RATE_HZ, seed=1)
    is_odd = np.arange(sound.size) // 8_000 % 2 == 1
    level_db = bands_db(sound)
    inverting = mixed(sound, np.where(is_odd, -sound, sound).astype(np.float32))
    np.testing.assert_allclose(bands_db(inverting), level_db, atol=0.5)
    # Where one channel has the sound, the energy mean of both is half of it.
    swapping = mixed(*(np.where(each, sound, 0).astype(np.float32) for each in (is_odd, ~is_odd)))
    np.testing.assert_allclose(bands_db(swapping), level_db - 3.01, atol=0.5)


@pytest.mark.parametrize("ms", [1, 3, 7, 20])
@pytest.mark.parametrize("gain", [1.0, -1.0, 0.7])
def test_a_delay_is_no_comb_filter(ms: float, gain: float) -> None:
    sound = hiss(8 * RATE_HZ, seed=1)
    other = np.float32(gain) * delayed(sound, ms)
    level_db = bands_db(sound) + 10 * np.log10((1 + gain**2) / 2)
    off_db = bands_db(mixed(sound, other)) - level_db
    assert abs(off_db.mean()) < 1.0
    assert off_db.min() > -2.5
    # The mean of the channels has notches.
    if ms < 7 and gain == 1.0:
        assert (bands_db((sound + other) / 2) - level_db).min() < -4.0


def test_sounds_in_different_channels_are_both_there() -> None:
    times_s = np.arange(3 * RATE_HZ) / RATE_HZ
    tones = [(0.1 * np.sin(2 * np.pi * hz * times_s)).astype(np.float32) for hz in (500, 3_000)]
    both = bands_db(mixed(*tones))
    for tone in tones:
        at = bands_db(tone).argmax()
        assert both[at] == pytest.approx(bands_db(tone)[at] - 3.01, abs=0.1)


def test_the_energy_is_that_of_the_energy_mean() -> None:
    unrelated = [hiss(5 * RATE_HZ, seed=seed) for seed in range(4)]
    energy = np.mean([np.square(each).mean() for each in unrelated])
    assert 10 * np.log10(np.square(mixed(*unrelated)).mean() / energy) == pytest.approx(0, abs=1.3)


def test_silence_stays_silent() -> None:
    silence = np.zeros(40_000, dtype=np.float32)
    assert not mixed(silence, silence).any()
    burst = silence.copy()
    burst[20_000:21_000] = hiss(1_000, seed=1)
    found = mixed(burst, -burst)
    assert np.abs(found[:19_000]).max() < 1e-7
    assert np.abs(found[22_000:]).max() < 1e-7
    assert np.isfinite(mixed(1e-20 * burst, -burst)).all()


@settings(max_examples=30)
@given(
    n_samples=st.integers(0, 70_000),
    n_channels=st.integers(2, 4),
    cuts=st.lists(st.integers(0, 70_000), max_size=6),
)
def test_any_cut_into_blocks_gives_the_same_mix(
    n_samples: int, n_channels: int, cuts: list[int]
) -> None:
    each = [hiss(n_samples, seed=seed) for seed in range(n_channels)]
    whole = mixed(*each)
    assert whole.size == n_samples
    np.testing.assert_array_equal(mixed(*each, cuts=cuts), whole)


def test_many_channels_are_mixed_in_shorter_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    each = [siren(), delayed(siren(), 5), hiss(siren().size, seed=1)]
    whole = mixed(*each)
    monkeypatch.setattr(downmix, "_LARGEST_BATCH", 3_000)
    np.testing.assert_allclose(mixed(*each), whole, atol=1e-6)
