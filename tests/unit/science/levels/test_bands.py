"""Third-octave filters against the class 1 mask of IEC 61260-1, by response and as measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from actors.facts.third_octaves import NOMINAL_HZ, exact_hz
from actors.science.levels import bands
from actors.science.levels.totals import to_db
from tests.support.metering import metered, rows, sine

MASK = rows("iec61260_third_octave_class1.csv")
AXIS = np.log([row["normalised_frequency"] for row in MASK])
RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000)


def limits(ratio: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the attenuation limits in dB at frequencies relative to the midband."""
    away = np.abs(np.log(ratio))
    least = np.interp(away, AXIS, [row["min_relative_attenuation_db"] for row in MASK])
    greatest = np.array([row["max_relative_attenuation_db"] for row in MASK])
    n_finite = int(np.isfinite(greatest).sum())
    most = np.interp(away, AXIS[:n_finite], greatest[:n_finite])
    return least, np.where(away > AXIS[n_finite - 1] + 1e-9, np.inf, most)


def attenuation_db(band: int, hz: NDArray[np.float64], *, rate_hz: int) -> NDArray[np.float64]:
    """Return the attenuation of a band, including all halvings before it and their aliases."""
    gain = np.ones(hz.size)
    for stage in bands.stages(rate_hz):
        sections = stage.sections.get(band)
        filtered = bands.halving_filter() if sections is None else sections
        gain *= np.abs(signal.freqz_sos(filtered, worN=hz, fs=stage.rate_hz)[1])
        if sections is not None:
            return np.asarray(-20 * np.log10(np.maximum(gain, 1e-12)))
    raise AssertionError(band)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_every_band_keeps_class_1(rate_hz: int) -> None:
    for band in bands.bands_at(rate_hz):
        midband_hz = exact_hz(band)
        at = np.exp(np.concatenate([AXIS, np.linspace(0, AXIS[-1] * 1.2, 100)]))
        hz = midband_hz * np.concatenate([1 / at, at])
        hz = np.concatenate([hz[hz < rate_hz / 2], np.geomspace(1, rate_hz / 2 - 1, 500)])
        off_db = attenuation_db(band, hz, rate_hz=rate_hz)
        off_db = off_db - attenuation_db(band, np.array([midband_hz]), rate_hz=rate_hz)
        least, most = limits(hz / midband_hz)
        assert (off_db >= least - 1e-6).all(), (band, hz[off_db < least])
        assert (off_db <= most + 1e-6).all(), (band, hz[off_db > most])


def test_midbands_are_the_nominal_ones() -> None:
    assert [NOMINAL_HZ[n] for n in bands.bands_at(44_100)][::28] == [25.0, 16000.0]
    assert NOMINAL_HZ[bands.bands_at(48_000)[-1]] == 16_000
    assert NOMINAL_HZ[bands.bands_at(96_000)[-1]] == 20_000
    assert NOMINAL_HZ[bands.bands_at(8_000)[-1]] == 3_150
    for band, nominal_hz in NOMINAL_HZ.items():
        assert exact_hz(band) == pytest.approx(nominal_hz, rel=0.013)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000])
def test_a_measured_sine_is_in_its_band_and_no_other(rate_hz: int) -> None:
    """Sines at the points of the mask, measured by the meter, with fades to avoid clicks."""
    seconds = 2
    n_frames = rate_hz * seconds
    fade = np.minimum(1.0, np.arange(n_frames) / rate_hz)
    fade = np.sin(fade * fade[::-1] * np.pi / 2) ** 2
    for band, ratio in [
        (band, ratio) for band in (14, 24, 30, 38, 42) for ratio in (1.0, 1 / 1.2944, 1.2944)
    ]:
        hz = exact_hz(band) * ratio
        if hz > 0.45 * rate_hz:
            continue
        samples = 0.5 * sine(rate_hz, hz=hz, seconds=seconds) * fade
        totals = metered(samples, rate_hz, third_octaves=True)[1]
        assert totals.band_mean_squares is not None
        total_db = to_db(totals.z_mean_square)
        assert total_db is not None
        for other, mean_square in totals.band_mean_squares.items():
            off_db = total_db - 10 * np.log10(mean_square + 1e-30)
            least, most = limits(np.array([hz / exact_hz(other)]))
            assert least[0] - 0.05 <= off_db <= most[0] + 0.05, (band, ratio, other)


def test_the_bands_of_noise_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(2)
    inside = signal.butter(8, [200, 5_000], btype="bandpass", fs=48_000, output="sos")
    samples = 0.2 * signal.sosfilt(inside, rng.normal(0, 1, (480_000, 2)), axis=0)
    totals = metered(samples, 48_000, third_octaves=True)[1]
    assert totals.band_mean_squares is not None
    off_db = 10 * np.log10(sum(totals.band_mean_squares.values()) / totals.z_mean_square)
    assert off_db == pytest.approx(0, abs=0.15)
    answered = totals.third_octaves(calibration_db=94.0)
    assert answered is not None
    assert [entry["nominal_hz"] for entry in answered][:3] == [25.0, 31.5, 40.0]
    assert answered[16]["lzeq_db"] == pytest.approx(
        94 + 10 * np.log10(totals.band_mean_squares[30])
    )
