"""Synthesised noise types and background beds, with wide random parameters.

Every function takes a numpy generator and returns mono float32 samples with an rms of 1.0; the
caller sets the level. The ranges cover the variation of such sources in the field rather than one
clean example: a detector trained on one siren only detects that siren.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

Sound = Callable[[np.random.Generator, int, int], NDArray[np.float32]]

#: Sample rate of the demonstration recording.
DEMO_RATE_HZ = 44_100

#: Rms of the demonstration's background, dB re full scale, and of the sounds over it.
_DEMO_BED_DB = -58.0
_DEMO_SOUND_DB = (-30.0, -22.0)

#: Greatest sample of a sound, full scale = 1. Blows are quieter for it: they would be cut off.
_DEMO_PEAK = 0.9


class Truth(NamedTuple):
    """A sound of the demonstration: seconds from its start, and the noise type."""

    start_s: float
    end_s: float
    noise_type: str


def mains_hum(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Transformer or ground-loop hum: harmonics of 50 or 60 Hz, some with a rectifier's buzz."""
    t = np.arange(n_samples) / rate_hz
    base_hz = rng.choice([50.0, 60.0]) * rng.choice([1.0, 2.0]) * rng.uniform(0.998, 1.002)
    n_harmonics = int(rng.integers(4, 40))
    slope = rng.uniform(0.5, 2.0)
    out = np.zeros(n_samples)
    for harmonic in range(1, n_harmonics + 1):
        if harmonic * base_hz > 0.45 * min(rate_hz, 16_000):
            break
        gain = harmonic**-slope * rng.uniform(0.2, 1.0)
        out += gain * np.sin(2 * np.pi * harmonic * base_hz * t + rng.uniform(0, 2 * np.pi))
    sway = 1.0 + rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(0.1, 1.5) * t)
    return _unit(out * sway)


def alarm_tone(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Beeping alarm: steady tones switched on and off, one pitch or two in turn."""
    t = np.arange(n_samples) / rate_hz
    first_hz = _log_uniform(rng, 600, 4_000)
    pitches_hz = [first_hz, first_hz * rng.choice([1.0, rng.uniform(1.1, 1.6)])]
    beeps_per_s = _log_uniform(rng, 0.8, 8.0)
    duty = rng.uniform(0.3, 0.85)
    phase = t * beeps_per_s + rng.uniform(0, 1)
    gate = ((phase % 1.0) < duty).astype(float)
    pitch_hz = np.where(phase.astype(int) % 2 == 0, pitches_hz[0], pitches_hz[1])
    if rng.random() < 0.3:
        gate = np.ones(n_samples)  # A two-tone alarm without pauses.
        pitch_hz = np.where(phase.astype(int) % 2 == 0, first_hz, first_hz * rng.uniform(1.15, 1.6))
    out = _harmonics(rng, pitch_hz, rate_hz)
    return _unit(out * _smooth(gate, rate_hz, seconds=rng.uniform(0.002, 0.015)))


def siren_sweep(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Siren: a pitch that glides up and down without pauses, slow wail to fast yelp."""
    t = np.arange(n_samples) / rate_hz
    low_hz = _log_uniform(rng, 350, 1_100)
    high_hz = low_hz * rng.uniform(1.6, 3.2)
    sweeps_per_s = _log_uniform(rng, 0.15, 4.5)
    rising = rng.uniform(0.15, 0.95)
    sweep = (signal.sawtooth(2 * np.pi * (sweeps_per_s * t + rng.uniform(0, 1)), rising) + 1) / 2
    if rng.random() < 0.5:
        sweep = 0.5 - 0.5 * np.cos(np.pi * sweep)
    pitch_hz = low_hz * (high_hz / low_hz) ** sweep
    return _unit(_harmonics(rng, pitch_hz, rate_hz))


def hammering(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Blows on wood, metal or stone: sharp onsets with ringing modes, nearly periodic."""
    period_s = 1.0 / _log_uniform(rng, 1.2, 9.0)
    jitter = rng.uniform(0.0, 0.15)
    blow = _blow(rng, rate_hz)
    out = np.zeros(n_samples + blow.size)
    at_s = rng.uniform(0, period_s)
    while at_s * rate_hz < n_samples:
        first = int(at_s * rate_hz)
        out[first : first + blow.size] += blow * rng.uniform(0.6, 1.0)
        at_s += period_s * (1 + jitter * rng.uniform(-1, 1))
    return _unit(out[:n_samples])


def broadband_hiss(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Escaping air or steam: steady noise with a rising or flat spectrum above a low cut."""
    low_hz = _log_uniform(rng, 800, 3_000)
    spectrum = _shaped_noise(rng, n_samples, rate_hz, slope_db=rng.uniform(-2.0, 4.0))
    sections = signal.butter(2, low_hz, "highpass", fs=rate_hz, output="sos")
    out = signal.sosfilt(sections, spectrum)
    t = np.arange(n_samples) / rate_hz
    flutter = 1.0 + rng.uniform(0, 0.2) * np.sin(2 * np.pi * rng.uniform(0.2, 3.0) * t)
    return _unit(out * flutter)


def background_bed(rng: np.random.Generator, n_samples: int, rate_hz: int) -> NDArray[np.float32]:
    """Quiet room or place: sloped noise, sometimes low-passed, sometimes modulated."""
    bed = _shaped_noise(rng, n_samples, rate_hz, slope_db=rng.uniform(-9.0, -0.5))
    if rng.random() < 0.5:
        cut_hz = _log_uniform(rng, 300, 0.45 * min(rate_hz, 16_000))
        bed = signal.sosfilt(signal.butter(1, cut_hz, fs=rate_hz, output="sos"), bed)
    if rng.random() < 0.4:
        t = np.arange(n_samples) / rate_hz
        bed = bed * (1 + rng.uniform(0, 0.4) * np.sin(2 * np.pi * rng.uniform(0.03, 0.4) * t))
    return _unit(bed)


#: The synthesised noise types by name.
SOUNDS: dict[str, Sound] = {
    "alarm_tone": alarm_tone,
    "broadband_hiss": broadband_hiss,
    "hammering": hammering,
    "mains_hum": mains_hum,
    "siren_sweep": siren_sweep,
}


def demo_recording(seed: int = 7) -> tuple[NDArray[np.float32], list[Truth]]:
    """Synthesise about 30 s of several types over a quiet background, with gaps.

    Returns
    -------
    samples : numpy.ndarray [shape=(n,), dtype=float32]
        Mono at `DEMO_RATE_HZ`, full scale = 1.0.
    truth : list of Truth
        The sounds in order of time.
    """
    rng = np.random.default_rng(seed)
    names: list[str] = rng.permutation(sorted(SOUNDS)).tolist()
    n_total = 30 * DEMO_RATE_HZ
    samples = background_bed(rng, n_total, DEMO_RATE_HZ) * _amplitude(_DEMO_BED_DB)
    truth: list[Truth] = []
    at_s = rng.uniform(1.5, 2.5)
    for name in names:
        length_s = rng.uniform(2.8, 4.2)
        sound = SOUNDS[name](rng, int(length_s * DEMO_RATE_HZ), DEMO_RATE_HZ)
        first = int(at_s * DEMO_RATE_HZ)
        amplitude = min(
            _amplitude(rng.uniform(*_DEMO_SOUND_DB)), _DEMO_PEAK / float(np.abs(sound).max())
        )
        faded = sound * _fade(sound.size, DEMO_RATE_HZ)
        samples[first : first + sound.size] += faded * amplitude
        truth.append(Truth(round(at_s, 3), round(at_s + length_s, 3), name))
        at_s += length_s + rng.uniform(1.5, 2.2)
    return samples.astype(np.float32), truth


def _blow(rng: np.random.Generator, rate_hz: int) -> NDArray[np.float64]:
    t = np.arange(int(0.25 * rate_hz)) / rate_hz
    thump = rng.normal(size=t.size) * np.exp(-t / rng.uniform(0.002, 0.02))
    ringing = np.zeros(t.size)
    for _ in range(int(rng.integers(1, 7))):
        pitch_hz = _log_uniform(rng, 120, 6_000)
        ringing += (
            rng.uniform(0.2, 1)
            * np.sin(2 * np.pi * pitch_hz * t)
            * np.exp(-t / _log_uniform(rng, 0.008, 0.08))
        )
    return thump + rng.uniform(0.0, 1.2) * ringing


def _harmonics(
    rng: np.random.Generator, pitch_hz: NDArray[np.float64], rate_hz: int
) -> NDArray[np.float64]:
    """Return a tone that follows a pitch, with overtones that stop below Nyquist."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    slope = rng.uniform(1.0, 3.0)
    out = np.sin(phase)
    for harmonic in range(2, int(rng.integers(2, 9))):
        audible = harmonic * pitch_hz < 0.45 * rate_hz
        out += audible * harmonic**-slope * np.sin(harmonic * phase)
    return out


def _shaped_noise(
    rng: np.random.Generator, n_samples: int, rate_hz: int, *, slope_db: float
) -> NDArray[np.float64]:
    """Return Gaussian noise with a slope of ``slope_db`` per octave (pink: -3, brown: -6)."""
    # Made a little longer: the transform of a prime length is many times slower.
    n_made = fft.next_fast_len(n_samples, real=True)
    spectrum = np.fft.rfft(rng.normal(size=n_made))
    frequencies_hz = np.fft.rfftfreq(n_made, 1 / rate_hz)
    # The slope ends at 40 Hz: otherwise a brown bed would be mostly rumble below it.
    gains = (np.maximum(frequencies_hz, 40.0) / 1_000.0) ** (slope_db / (20 * np.log10(2)))
    return np.fft.irfft(spectrum * gains, n_made)[:n_samples]


def _smooth(gate: NDArray[np.float64], rate_hz: int, *, seconds: float) -> NDArray[np.float64]:
    kernel = np.hanning(max(3, int(seconds * rate_hz) * 2 + 1))
    return signal.fftconvolve(gate, kernel / kernel.sum(), mode="same")


def _fade(n_samples: int, rate_hz: int) -> NDArray[np.float64]:
    ramp = min(int(0.02 * rate_hz), n_samples // 2)
    edge = np.linspace(0, 1, ramp)
    return np.concatenate([edge, np.ones(n_samples - 2 * ramp), edge[::-1]])


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _amplitude(level_db: float) -> float:
    return float(10 ** (level_db / 20))


def _unit(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale to an rms of 1.0; silence stays silence."""
    rms = float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0
    return (samples / rms if rms > 0 else samples).astype(np.float32)
