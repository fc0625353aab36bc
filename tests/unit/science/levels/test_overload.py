"""Overload is found where a waveform is cut off, and nowhere else."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import signal

from actors.science.levels.levels import step_starts
from actors.science.levels.meter import LevelMeter

RATE_HZ = 16_000
N = 4 * RATE_HZ
TIMES_S = np.arange(N) / RATE_HZ

Sound = NDArray[np.float64]


def overloaded(sound: Sound, *, rate_hz: int = RATE_HZ) -> NDArray[np.bool_]:
    """Return whether each step of a sound [shape=(n,)] or [shape=(n, n_channels)] is overloaded."""
    samples = np.asarray(sound, dtype=np.float32).reshape(len(sound), -1)
    meter = LevelMeter(rate_hz=rate_hz, n_channels=samples.shape[1])
    meter.push(samples)
    found = meter.finish().overloaded
    assert found is not None
    return found


def quantised(sound: Sound, bits: int = 16) -> Sound:
    """Return a sound as a file of so many bits holds it; beyond full scale it is cut off."""
    scale = 2.0 ** (bits - 1)
    cut: Sound = np.clip(np.rint(sound * scale), -scale, scale - 1) / scale
    return cut


def rumble(*, seed: int = 1, hz: float = 600) -> Sound:
    """Return noise below a frequency with its greatest sample at full scale."""
    noise = np.random.default_rng(seed).standard_normal(N)
    filtered = signal.sosfilt(signal.butter(2, hz, fs=RATE_HZ, output="sos"), noise)
    return np.asarray(filtered / np.abs(filtered).max())


def tone(hz: float) -> Sound:
    return np.sin(2 * np.pi * hz * TIMES_S + 0.3)


def mu_law(sound: Sound, *, subtype: str = "ULAW") -> Sound:
    """Return a sound in the 256 steps of mu-law, or of A-law."""
    file = io.BytesIO()
    soundfile.write(file, sound, RATE_HZ, format="WAV", subtype=subtype)
    expanded: Sound = soundfile.read(io.BytesIO(file.getvalue()))[0]
    return expanded


def square(hz: float, duty: float = 0.5) -> Sound:
    return np.asarray(signal.square(2 * np.pi * hz * TIMES_S, duty))


def true_steps(sound: Sound) -> NDArray[np.bool_]:
    """Return the steps with a sample at the greatest magnitude of either sign."""
    at = np.flatnonzero((sound >= sound.max()) | (sound <= sound.min()))
    starts = step_starts(0, 399, rate_hz=RATE_HZ)
    found = np.zeros(400, dtype=np.bool_)
    found[np.searchsorted(starts, at, side="right") - 1] = True
    return found


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize(("gain_db", "least"), [(3, 0.7), (6, 0.9), (10, 0.98)])
def test_clipping_at_full_scale_is_found(bits: int, gain_db: float, least: float) -> None:
    clipped = quantised(rumble() * 10 ** (gain_db / 20), bits)
    found, expected = overloaded(clipped), true_steps(clipped)
    assert (found & expected).sum() >= least * expected.sum()
    assert (found & ~expected).sum() <= 0.2 * found.sum()


def test_clipping_of_8_bits_is_found() -> None:
    clipped = quantised(rumble(hz=2_000) * 2, 8)
    assert (overloaded(clipped) & true_steps(clipped)).sum() >= 0.8 * true_steps(clipped).sum()


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_clipping_of_g711_is_found(subtype: str) -> None:
    """Its greatest value stands for everything from 0.965 on, and noise reaches it rarely."""
    noise = np.random.default_rng(0).standard_normal(N)
    for sound in (rumble(), noise / np.abs(noise).max()):
        clipped = mu_law(np.clip(2.0 * sound, -1, 1), subtype=subtype)
        truth, found = true_steps(clipped), overloaded(clipped)
        assert (found & truth).sum() >= 0.9 * truth.sum()
        assert not (found & ~truth).any()
        for amplitude in (0.5, 0.97, 1.0):
            assert not overloaded(mu_law(amplitude * sound, subtype=subtype)).any()


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
@pytest.mark.parametrize("amplitude", [0.95, 0.97, 0.99, 1.0])
def test_no_tone_or_sweep_of_g711_is_overload(subtype: str, amplitude: float) -> None:
    sweep = signal.chirp(TIMES_S, 50, 4, 6_000)
    for sound in (sweep, tone(330), tone(1_234)):
        assert not overloaded(mu_law(amplitude * sound, subtype=subtype)).any()


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_clipping_is_found_after_attenuation(share: float) -> None:
    clipped = np.clip(2 * rumble(), -1, 1)
    assert overloaded(quantised(share * clipped)).sum() >= 0.9 * true_steps(clipped).sum()


def test_clipping_is_found_after_resampling_and_dither() -> None:
    clipped = np.clip(2 * rumble(), -1, 1)
    resampled = np.asarray(signal.resample_poly(0.7 * clipped, 3, 1))
    assert overloaded(quantised(resampled), rate_hz=3 * RATE_HZ).mean() > 0.3
    dither = np.random.default_rng(2).triangular(-1, 0, 1, N) / 32_768
    assert overloaded(quantised(0.5 * clipped + dither)).mean() > 0.3


def test_noise_with_crests_of_single_samples_is_found() -> None:
    noise = np.random.default_rng(3).standard_normal(N)
    assert overloaded(quantised(0.4 * noise)).mean() > 0.8
    assert not overloaded(quantised(noise / np.abs(noise).max())).any()


def test_one_flat_crest_at_full_scale_is_enough() -> None:
    sound = 0.3 * rumble()
    sound[20_000:20_005] = 1.0
    assert overloaded(quantised(sound)).nonzero()[0].tolist() == [125]


def test_the_peak_of_a_normalised_recording_is_no_overload() -> None:
    assert not overloaded(quantised(rumble())).any()
    assert not overloaded(quantised(rumble(hz=50))).any()


def test_one_clipped_channel_is_enough() -> None:
    clipped = quantised(2 * rumble())
    both = np.stack([0.3 * rumble(seed=2), clipped], axis=1)
    assert (overloaded(both) == overloaded(clipped)).all()
    assert (overloaded(-clipped) == overloaded(clipped)).mean() > 0.99


def test_a_sound_that_is_cut_off_on_one_side_is_found() -> None:
    assert overloaded(np.maximum(quantised(0.9 * rumble()), -0.3)).mean() > 0.3


def test_a_known_ceiling_is_found_again_in_few_samples() -> None:
    clipped = 0.5 * np.clip(2 * rumble(), -1, 1)
    clipped[RATE_HZ:] = 0.1 * rumble(seed=2)[RATE_HZ:]
    clipped[3 * RATE_HZ : 3 * RATE_HZ + 80] = 0.5 * np.clip(3 * tone(100)[:80], -1, 1)
    assert overloaded(quantised(clipped))[300]


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("amplitude", [1.0, 0.9886, 0.5, 0.02])
@pytest.mark.parametrize("hz", [20, 50, 100, 440, 997, 2_000, RATE_HZ / 12])
def test_no_sine_is_overload(bits: int, amplitude: float, hz: float) -> None:
    assert not overloaded(quantised(amplitude * tone(hz), bits)).any()


@st.composite
def tones(draw: st.DrawFn) -> tuple[Sound, int]:
    """Draw a tone as a calibrator or a siren makes it, and its sample rate.

    Many frequencies nearly divide the rate, so that all crests have almost the same samples.
    """
    rate_hz = draw(st.sampled_from([8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]))
    hz = draw(
        st.sampled_from([63.0, 250.0, 500.0, 1_000.0, 2_000.0])
        | st.floats(20, 0.45 * rate_hz)
        | st.integers(3, 200).map(lambda samples: rate_hz / samples)
        | st.integers(13, 99).map(lambda samples: 2 * rate_hz / samples)
    )
    hz *= 1 + draw(st.just(0.0) | st.floats(-60, 60)) * 1e-6
    phase = draw(st.sampled_from([0, 0.3, np.pi / 2]) | st.floats(0, 2 * np.pi))
    cycles = hz * np.arange(2 * rate_hz) / rate_hz
    sound = np.sin(2 * np.pi * cycles + phase)
    sound += draw(st.sampled_from([0, 0.01])) * np.sin(
        draw(st.integers(2, 5)) * 2 * np.pi * cycles + draw(st.floats(0, 2 * np.pi))
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sound += draw(st.sampled_from([0, 1e-4, 1e-3, 1e-2])) * random.standard_normal(sound.size)
    sound *= draw(st.sampled_from([1.0, 0.999, 0.8, 0.1, 0.001]) | st.floats(0.001, 1))
    sound /= max(1, np.abs(sound).max())
    bits = draw(st.sampled_from([16, 24]))
    dither = draw(st.booleans()) * random.triangular(-1, 0, 1, sound.size) / 2 ** (bits - 1)
    return quantised(sound + dither, bits), rate_hz


@given(tones())
def test_no_tone_is_overload(tone_and_rate: tuple[Sound, int]) -> None:
    sound, rate_hz = tone_and_rate
    assert not overloaded(sound, rate_hz=rate_hz).any()


@given(
    samples=st.integers(12, 400),
    length=st.floats(4, 6),
    ppm=st.sampled_from([0, -30, 10]),
    phase=st.floats(0, 2 * np.pi),
    bits=st.sampled_from([16, 24, 32]),
)
def test_a_tone_that_is_cut_off_at_full_scale_is_found(
    samples: int, length: float, ppm: int, phase: float, bits: int
) -> None:
    """Try crests of four samples and more, and of at least 0.5 dB too much."""
    cycles = np.arange(N) * (1 + ppm * 1e-6) / samples
    gain = max(1.06, 1 / np.cos(np.pi * length / samples))
    found = overloaded(quantised(gain * np.sin(2 * np.pi * cycles + phase), bits))
    assert found.reshape(4, 100).any(axis=1).all()


@pytest.mark.parametrize("gain", [1.5, 3, 100])
@pytest.mark.parametrize("hz", [250, 1_000, 4_000])
def test_a_tone_of_any_gain_is_found_at_full_scale(hz: float, gain: float) -> None:
    times_s = np.arange(2 * 48_000) / 48_000
    sound = quantised(gain * np.sin(2 * np.pi * hz * times_s))
    assert overloaded(sound, rate_hz=48_000).all()


@pytest.mark.parametrize("hz", [50, 440, 1_000])
def test_a_rectangular_wave_is_overload_at_full_scale(hz: float) -> None:
    assert overloaded(quantised(square(hz))).all()


@pytest.mark.parametrize("ratio", [1.25, 4 / 3, 1.5, 2])
@pytest.mark.parametrize("samples", [11, 16, 17, 47, 128])
def test_no_chord_is_overload(samples: int, ratio: float) -> None:
    low = RATE_HZ / samples
    assert not overloaded(quantised(0.5 * tone(low) + 0.5 * tone(low * ratio))).any()


def test_no_change_of_pitch_is_overload() -> None:
    sound = np.where(TIMES_S % 0.8 < 0.4, tone(500), tone(3_000))
    assert not overloaded(quantised(0.5 * sound)).any()


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(N),
        np.full(N, 0.5),
        np.full(N, 1.0),
        0.5 + quantised(0.01 * rumble()),
        0.5 * square(100),
        0.5 * square(1_000),
        0.5 * square(440, 0.1),
        0.2 * square(200) + 0.2 * square(252) + 0.1 * square(300),
        0.5 * signal.sawtooth(2 * np.pi * 220 * TIMES_S),
        0.5 * signal.sawtooth(2 * np.pi * 220 * TIMES_S, 0.5),
        0.9 * np.sin(2 * np.pi * 800 * TIMES_S + 300 * np.sin(2 * np.pi * 0.5 * TIMES_S)),
        0.9 * tone(1_000) * (TIMES_S % 0.5 < 0.2),
        0.5 * tone(440) * (1 + 0.9 * tone(3)),
        np.repeat(rumble()[: N // 4], 4),
        np.repeat(0.5 * rumble(hz=4_000)[: N // 4], 4),
        mu_law(0.98 * tone(100)),
        mu_law(0.5 * rumble()),
        quantised(0.5 * mu_law(0.9 * rumble())),
        quantised(0.37 * mu_law(0.2 * tone(100))),
        quantised(0.01 * rumble(), 8),
        quantised(0.2 * rumble(), 8),
    ],
    ids=lambda sound: f"{np.abs(sound).max():.3f}",
)
def test_what_is_flat_without_being_cut_off_is_no_overload(sound: Sound) -> None:
    assert not overloaded(sound).any()


@given(
    seed=st.integers(0, 2**32 - 1),
    hz=st.sampled_from([50, 300, 1_000, 4_000, 7_000]),
    level_db=st.floats(-60, 0),
    bits=st.sampled_from([16, 24]),
)
def test_noise_that_is_not_cut_off_is_no_overload(
    seed: int, hz: float, level_db: float, bits: int
) -> None:
    sound = rumble(seed=seed, hz=hz) * 10 ** (level_db / 20)
    assert not overloaded(quantised(sound, bits)).any()


@given(cuts=st.lists(st.integers(0, N), max_size=6))
@settings(max_examples=15)
def test_the_division_into_blocks_does_not_matter(cuts: list[int]) -> None:
    clipped = quantised(2 * rumble()).astype(np.float32)[:, None]
    meter = LevelMeter(rate_hz=RATE_HZ, n_channels=1)
    for part in np.split(clipped, sorted(cuts)):
        meter.push(part)
    found = meter.finish().overloaded
    assert found is not None
    assert (found == overloaded(clipped.astype(np.float64))).all()
