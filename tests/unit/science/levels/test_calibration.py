"""A calibrator's tone is accepted, and signals that only resemble one are rejected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.science.errors import (
    NoCalibratorTone,
    RecordingError,
    ToneChannels,
    ToneClipped,
    ToneMissing,
    ToneTooFaint,
    ToneTooShort,
    ToneUnsteady,
)
from actors.science.levels import calibration
from tests.support.metering import overall, sine

RATE_HZ = 48_000


def calibrator(
    *, hz: float = 1000.0, seconds: float = 8.0, peak: float = 0.1, noise: float = 1e-4
) -> NDArray[np.float64]:
    """Return two seconds of a room, the calibrator, and a second of the room."""
    rng = np.random.default_rng(1)
    tone = sine(RATE_HZ, hz=hz, seconds=seconds, peak=peak)
    silence = np.zeros(RATE_HZ)
    whole = np.concatenate([silence, silence, tone, silence])
    return np.asarray(whole + rng.normal(0, noise, whole.size))


def find(samples: NDArray[np.float64], tone_spl_db: float = 94.0) -> calibration.Calibration:
    block = samples.astype(np.float32)
    block = block[:, None] if block.ndim == 1 else block
    n_frame = calibration.frame_length(RATE_HZ)
    frames = [block[first : first + n_frame] for first in range(0, len(block), n_frame)]
    return calibration.from_tone(frames, rate_hz=RATE_HZ, tone_spl_db=tone_spl_db)


@pytest.mark.parametrize("hz", [250.0, 990.0, 1000.0, 1000.3, 1015.0])
@pytest.mark.parametrize("tone_spl_db", [94.0, 114.0])
def test_a_calibrator_is_found_and_used(hz: float, tone_spl_db: float) -> None:
    found = find(calibrator(hz=hz), tone_spl_db)
    assert found.calibration_db == pytest.approx(tone_spl_db + 23.0103, abs=0.01)
    assert found.tone_hz == pytest.approx(hz, abs=1.0)
    assert 2.0 < found.start_s < 2.6
    assert 9.4 < found.end_s < 10.0
    # Measured with this calibration, the tone has the calibrator's level.
    tone = sine(RATE_HZ, hz=hz, seconds=5, peak=0.1)
    level_db = overall(tone, RATE_HZ, calibration_db=found.calibration_db)["lzeq_db"]
    assert level_db == pytest.approx(tone_spl_db, abs=0.01)


def test_noise_beside_the_tone_does_not_count() -> None:
    found = find(calibrator(noise=0.006))
    assert found.calibration_db == pytest.approx(94 + 23.0103, abs=0.01)


def test_handling_before_the_tone_does_no_harm() -> None:
    samples = calibrator()
    samples[:RATE_HZ] += np.random.default_rng(2).normal(0, 0.5, RATE_HZ)
    samples[RATE_HZ : RATE_HZ + 10] = 1.0
    assert find(samples).calibration_db == pytest.approx(94 + 23.0103, abs=0.01)


def wobbling() -> NDArray[np.float64]:
    samples = calibrator()
    return samples * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * np.arange(samples.size) / RATE_HZ))


def fading() -> NDArray[np.float64]:
    samples = calibrator()
    return samples * np.geomspace(1, 0.1, samples.size)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: np.zeros(RATE_HZ * 5), ToneMissing),
        (lambda: np.zeros(100), ToneMissing),
        (lambda: np.random.default_rng(3).normal(0, 0.1, RATE_HZ * 5), ToneMissing),
        (lambda: calibrator(hz=440.0), ToneMissing),
        (lambda: calibrator(hz=1100.0), ToneMissing),
        (lambda: calibrator(noise=0.05), ToneMissing),
        (lambda: calibrator(noise=0.012), ToneTooFaint),
        (lambda: calibrator(peak=1e-5, noise=1e-9), ToneTooFaint),
        (lambda: calibrator(seconds=1.5), ToneTooShort),
        (lambda: calibrator(seconds=2.2), ToneTooShort),
        (wobbling, ToneUnsteady),
        (fading, ToneUnsteady),
        (lambda: np.clip(calibrator(peak=1.05), -1, 1), ToneClipped),
        (lambda: np.clip(calibrator(peak=3.0), -0.9995, 0.9995), ToneClipped),
    ],
)
def test_what_is_no_steady_tone_is_refused(
    make: Callable[[], NDArray[np.float64]], error: type[NoCalibratorTone]
) -> None:
    with pytest.raises(NoCalibratorTone) as raised:
        find(make())
    assert type(raised.value) is error
    assert isinstance(raised.value, RecordingError)
    assert raised.value.code == error.code
    assert str(raised.value)


def test_channels_must_hear_the_same_tone() -> None:
    tone = calibrator()
    same = find(np.stack([tone, 1.01 * tone], axis=1))
    assert same.calibration_db == pytest.approx(94 + 22.967, abs=0.01)
    with pytest.raises(ToneChannels):
        find(np.stack([tone, 2 * tone], axis=1))
    with pytest.raises(ToneMissing):
        find(np.stack([tone, 0 * tone], axis=1))
