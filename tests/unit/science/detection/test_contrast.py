"""Segments of steady noise do not differ from what is around them; sounds over it do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection.chunks import RATE_HZ, STEP, Grid
from actors.science.detection.contrast import Surroundings, is_noise
from actors.science.detection.decoding import Segment
from actors.science.detection.inference import in_memory
from tests.support.metering import measure

N_SECONDS = 40
NOISE = np.random.default_rng(0).normal(0, 0.01, N_SECONDS * RATE_HZ).astype(np.float32)


def around(samples: np.ndarray) -> Surroundings:
    return Surroundings(in_memory(samples), Grid(samples.size), measure(samples, RATE_HZ))


def stretch(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32)[np.newaxis]


STEADY = around(NOISE)


def rain() -> np.ndarray:
    """Return noise with drops, whose level hardly varies."""
    rng, sound = np.random.default_rng(1), NOISE.copy()
    for at in rng.integers(0, sound.size - 40, 30 * N_SECONDS):
        sound[at : at + 40] += rng.lognormal(0, 0.8) * 0.03 * np.hanning(40) * rng.normal(size=40)
    return sound


RAIN = around(rain())


@given(first=st.integers(0, 390), length=st.integers(3, 120))
def test_no_part_of_steady_noise_differs(first: int, length: int) -> None:
    segment = Segment(first, min(first + length, 400))
    assert not STEADY.differ(segment, [segment])


@pytest.mark.parametrize("hz", [150, 1_000, 6_000])
@pytest.mark.parametrize("length", [5, 20, 100])
def test_a_tone_below_the_noise_differs(hz: float, length: int) -> None:
    """It is 7 dB below the noise."""
    segment = Segment(200, 200 + length)
    times_s = np.arange(length * STEP) / RATE_HZ
    sound = NOISE.copy()
    sound[200 * STEP : segment.stop * STEP] += np.float32(0.0063) * np.sin(2 * np.pi * hz * times_s)
    found = around(sound)
    assert found.differ(segment, [segment])


def test_a_pause_differs_and_so_does_a_segment_beside_silence() -> None:
    paused = NOISE.copy()
    paused[20 * RATE_HZ :] = 0
    found = around(paused)
    for segment in (Segment(150, 200), Segment(200, 250)):
        assert found.differ(segment, [segment])


def test_rain_that_lasts_is_kept_and_noise_is_not() -> None:
    """With short gaps, or for the whole recording."""
    parts = [Segment(first, first + 40) for first in range(0, 400, 50)]
    for segments in (parts, [Segment(0, 400)]):
        assert all(RAIN.differ(each, segments) for each in segments)
        assert not any(STEADY.differ(each, segments) for each in segments)
    few = parts[::2]
    assert not any(STEADY.differ(each, few) for each in few)


def test_a_recording_too_short_to_compare_is_kept() -> None:
    for length_s in (3, 14):
        short = around(NOISE[: length_s * RATE_HZ])
        whole = Segment(0, 10 * length_s)
        assert short.differ(whole, [whole])
    # Less than two seconds are left.
    short = around(NOISE[: 3 * RATE_HZ])
    assert short.differ(Segment(0, 15), [Segment(0, 15)])


@given(exponent=st.floats(0, 2), db=st.floats(-70, 0), seed=st.integers(0, 99))
def test_noise_of_any_spectrum_is_noise(exponent: float, db: float, seed: int) -> None:
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=10 * RATE_HZ))
    spectrum[1:] *= np.arange(1, spectrum.size) ** (-exponent / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum)
    assert is_noise(stretch(10 ** (db / 20) * noise / noise.std()))


@pytest.mark.parametrize("depth_db", [1.0, 3.0])
def test_noise_that_swells_is_none(depth_db: float) -> None:
    """As surf and gusts do."""
    swell = 10 ** (depth_db / 40 * np.sin(2 * np.pi * np.arange(10 * RATE_HZ) / RATE_HZ / 5))
    assert not is_noise(stretch(NOISE[: 10 * RATE_HZ] * swell))


def test_tones_and_silence_are_no_noise() -> None:
    times_s = np.arange(10 * RATE_HZ) / RATE_HZ
    harmonics = np.arange(1, 60)[:, np.newaxis]
    hum = (np.sin(2 * np.pi * 50 * harmonics * times_s) / harmonics).sum(axis=0)
    assert not is_noise(stretch(0.1 * hum))
    assert not is_noise(stretch(0.0 * hum))


def rumble(*, seed: int = 3) -> np.ndarray:
    """Return a random walk, 30 dB above the noise, that begins away from zero."""
    walk = np.cumsum(np.random.default_rng(seed).normal(size=NOISE.size))
    return np.asarray(0.3 * walk / walk.std() + 0.3, dtype=np.float32)


def test_the_ends_of_a_recording_with_a_rumble_are_no_clicks() -> None:
    """Its noise is as steady as without it."""
    found = around(NOISE + rumble())
    for first in range(0, 400, 40):
        segment = Segment(first, first + 40)
        assert not found.differ(segment, [segment])


def test_a_click_at_the_start_is_left_out_beside_a_longer_segment() -> None:
    """As codecs make it. A sound that ends soon behind it is compared."""
    clicked = NOISE.copy()
    clicked[:400] += 0.3
    found = around(clicked)
    assert not found.differ(Segment(0, 60), [Segment(0, 60)])
    assert found.differ(Segment(0, 5), [Segment(0, 5)])


@pytest.mark.parametrize(("hz", "is_kept"), [((6_000, 7_900), False), ((200, 900), True)])
def test_bands_that_codecs_turn_off_are_not_compared(
    hz: tuple[float, float], is_kept: bool
) -> None:
    """The noise falls by 12 dB an octave, so that its highest band is 50 dB below the lowest."""
    spectrum = np.fft.rfft(NOISE)
    at_hz = np.fft.rfftfreq(NOISE.size, 1 / RATE_HZ)
    spectrum *= np.minimum(1, (125 / np.maximum(at_hz, 1)) ** 2)
    whole = np.fft.irfft(spectrum, NOISE.size)
    spectrum[(at_hz >= hz[0]) & (at_hz < hz[1])] = 0
    turned_off = np.fft.irfft(spectrum, NOISE.size)
    segment = Segment(200, 240)
    part = slice(segment.first * STEP, segment.stop * STEP)
    whole[part] = turned_off[part]
    found = around((whole / whole.std() * 0.01).astype(np.float32))
    assert found.differ(segment, [segment]) == is_kept


def test_the_lead_of_the_grid_is_counted() -> None:
    sound = NOISE.copy()
    sound[20 * RATE_HZ : 21 * RATE_HZ] *= 2
    lead = 2 * STEP
    grid = Grid(sound.size, lead=lead)
    found = Surroundings(in_memory(sound), grid, measure(sound, RATE_HZ))
    first = (20 * RATE_HZ + lead) // STEP
    assert found.differ(Segment(first, first + 10), [])
    assert not STEADY.differ(Segment(first, first + 10), [])
    assert not found.differ(Segment(0, 2), [])
