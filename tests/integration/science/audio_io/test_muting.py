"""Replacement of speech by noise of the same bands and level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.facts.third_octaves import NOMINAL_HZ
from actors.science.audio_io import muting
from tests.support import voices
from tests.support.metering import metered

RATE_HZ = 32_000
Samples = NDArray[np.float32]


def scene() -> Samples:
    """Return six seconds of a voice before a siren, in two channels; the second one is quieter."""
    samples = voices.voice(6, rate_hz=RATE_HZ, seed=1) + voices.hiss(6, rate_hz=RATE_HZ, seed=2)
    samples += voices.siren(6, rate_hz=RATE_HZ)
    return np.stack([samples, samples / 4], axis=1)


SCENE = scene()


def muted(
    samples: Samples, *intervals: tuple[float, float], cuts: int | list[int] = 10_007
) -> Samples:
    if isinstance(cuts, int):
        cuts = list(range(cuts, len(samples), cuts))
    found = list(muting.muted(np.split(samples, cuts), intervals, rate_hz=RATE_HZ))
    return np.concatenate([samples[:0], *found])


def test_all_outside_of_the_intervals_stays_as_it_is() -> None:
    found = muted(SCENE, (1.25, 2.5), (4.0, 4.5))
    assert found.shape == SCENE.shape
    assert found.dtype == np.float32
    is_muted = np.zeros(len(SCENE), dtype=bool)
    for start_s, end_s in ((1.25, 2.5), (4.0, 4.5)):
        is_muted[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)] = True
    assert (found == SCENE)[~is_muted].all()
    # Except for single samples at the very edges, all samples inside are replaced.
    assert (found != SCENE)[is_muted].mean() > 0.999
    assert (muted(SCENE) == SCENE).all()


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, len(SCENE)), max_size=6).map(sorted))
def test_the_cuts_into_blocks_do_not_matter(cuts: list[int]) -> None:
    whole = muted(SCENE, (0.0, 0.7), (1.5, 4.0), (5.5, 6.5), cuts=[])
    assert (muted(SCENE, (0.0, 0.7), (1.5, 4.0), (5.5, 6.5), cuts=cuts) == whole).all()


@pytest.mark.parametrize("channel", [0, 1])
def test_third_octave_levels_stay_within_a_decibel(channel: int) -> None:
    """From 100 Hz on, measured by the filters of IEC 61260-1. The noise is random."""
    found = muted(SCENE, (-1.0, 7.0))
    before, after = (
        metered(each[:, channel].astype(np.float64), RATE_HZ, third_octaves=True)[1]
        for each in (SCENE, found)
    )
    assert before.band_mean_squares is not None
    assert after.band_mean_squares is not None
    in_db = {band: 10 * np.log10(each) for band, each in before.band_mean_squares.items()}
    compared = [
        band
        for band, level_db in in_db.items()
        # Next to a much louder band, a filter's output depends on where that band's energy is.
        if NOMINAL_HZ[band] >= 100
        and max(in_db.get(band - 1, level_db), in_db.get(band + 1, level_db)) < level_db + 15
    ]
    assert len(compared) > 15
    for band in compared:
        off_db = 10 * np.log10(after.band_mean_squares[band]) - in_db[band]
        assert off_db == pytest.approx(0, abs=1.0), NOMINAL_HZ[band]
    assert 10 * np.log10(after.z_mean_square / before.z_mean_square) == pytest.approx(0, abs=0.05)
    assert 10 * np.log10(after.a_mean_square / before.a_mean_square) == pytest.approx(0, abs=0.3)


def test_nothing_can_be_understood() -> None:
    """Neither the waveform nor the envelope of any octave follows that of the voice."""
    voice = voices.voice(10, rate_hz=RATE_HZ, seed=4)[:, None]
    found = muted(voice, (-1.0, 11.0))
    assert abs(np.corrcoef(voice[:, 0], found[:, 0])[0, 1]) < 0.02
    for low_hz in (250, 500, 1_000, 2_000):
        spoken, noise = (_envelope(each[:, 0], low_hz) for each in (voice, found))
        assert _modulation(spoken) > 0.5
        # The remaining correlation is that of noise, and carries no information.
        assert abs(np.corrcoef(spoken, noise)[0, 1]) < 0.35
        assert _modulation(noise) < 0.35


def _envelope(samples: Samples, low_hz: float) -> NDArray[np.float64]:
    """Return the envelope of an octave between 2 and 16 Hz, at 100 Hz, with its mean."""
    octave = signal.butter(4, [low_hz, 2 * low_hz], "bandpass", fs=RATE_HZ, output="sos")
    power = signal.sosfilt(octave, samples) ** 2
    amplitude = np.sqrt(power.reshape(-1, RATE_HZ // 100).mean(axis=1))
    slow = signal.butter(2, 16, fs=100, output="sos")
    smooth: NDArray[np.float64] = signal.sosfiltfilt(slow, amplitude)
    return smooth


def _modulation(envelope: NDArray[np.float64]) -> float:
    return float(envelope.std() / envelope.mean())


def test_what_is_alike_in_two_channels_stays_alike() -> None:
    found = muted(SCENE, (1.0, 5.0))
    assert np.abs(found[:, 0] - 4 * found[:, 1]).max() < 1e-6
    silent = np.stack([SCENE[:, 0], np.zeros(len(SCENE), dtype=np.float32)], axis=1)
    assert not muted(silent, (1.0, 5.0))[:, 1].any()


def test_an_offset_stays() -> None:
    constant = np.full((RATE_HZ, 1), 0.25, dtype=np.float32)
    assert muted(constant, (-1.0, 2.0)) == pytest.approx(constant, abs=1e-5)


def test_the_same_recording_becomes_the_same_noise() -> None:
    assert (muted(SCENE, (1.0, 5.0)) == muted(SCENE, (1.0, 5.0))).all()
    other = np.concatenate(list(muting.muted([SCENE], [(1.0, 5.0)], rate_hz=RATE_HZ, seed=1)))
    assert (other != muted(SCENE, (1.0, 5.0))).any()


@pytest.mark.parametrize("n_frames", [0, 1, 2, 500, 40_000])
def test_a_recording_may_end_within_what_is_muted(n_frames: int) -> None:
    found = muted(SCENE[:n_frames], (-0.5, 9.0), cuts=[])
    assert found.shape == (n_frames, 2)
    assert np.isfinite(found).all()
    assert (found**2).sum() == pytest.approx((SCENE[:n_frames] ** 2).sum(), rel=1e-3, abs=1e-12)
