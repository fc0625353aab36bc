"""The spectrogram: frequency of tones, length of columns, and independence of the blocks."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.science.audio_io import spectrogram
from actors.science.audio_io.spectrogram import MOST_COLUMNS, N_BANDS, Spectrogram, band_edges_hz
from actors.science.detection.chunks import RATE_HZ


def drawn(samples: NDArray[np.float32], *, block: int = 24_000) -> NDArray[np.float32]:
    made = Spectrogram()
    for start in range(0, samples.size, block):
        made.push(samples[start : start + block])
    return made.finish()


def seen(bands_db: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the brightness of each pixel of an image."""
    with Image.open(io.BytesIO(spectrogram.to_png(bands_db))) as picture:
        return np.asarray(picture.convert("L"))


def tone(hz: float, *, seconds: float) -> NDArray[np.float32]:
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(0.5 * np.sin(2 * np.pi * hz * times_s), dtype=np.float32)


@pytest.mark.parametrize("hz", [100.0, 440.0, 1_000.0, 6_500.0])
def test_a_tone_lies_in_its_band(hz: float) -> None:
    loudest = drawn(tone(hz, seconds=2)).mean(axis=1).argmax()
    edges_hz = band_edges_hz()
    # Within the frequency resolution of the window: half a bin.
    assert edges_hz[loudest] - 8 <= hz <= edges_hz[loudest + 1] + 8


@pytest.mark.parametrize("seconds", [3.0, 124.0, 126.0, 431.7])
def test_the_columns_cover_the_recording_and_no_more(seconds: float) -> None:
    """A tone from a quarter to a half of the recording is visible there, to within a column."""
    samples = np.zeros(round(seconds * RATE_HZ), dtype=np.float32)
    quarter = samples.size // 4
    samples[quarter : 2 * quarter] = tone(1_000, seconds=quarter / RATE_HZ)
    bands_db = drawn(samples)
    height, width = bands_db.shape
    assert height == N_BANDS
    assert width <= MOST_COLUMNS
    if seconds > 125:
        assert width >= MOST_COLUMNS // 2
    loud = np.flatnonzero(bands_db.max(axis=0) > 0)
    assert loud[0] == pytest.approx(width / 4, abs=1.5)
    assert loud[-1] + 1 == pytest.approx(width / 2, abs=1.5)


@pytest.mark.parametrize("block", [160, 7_919, 2_000_000])
def test_blocks_do_not_matter(block: int) -> None:
    noise = np.random.default_rng(7).standard_normal(RATE_HZ * 140).astype(np.float32)
    np.testing.assert_allclose(drawn(noise, block=block), drawn(noise), atol=1e-3)


@pytest.mark.parametrize("n_samples", [0, 1, 999, 1_000, 1_001])
def test_hardly_anything_is_a_column_or_two(n_samples: int) -> None:
    bands_db = drawn(np.zeros(n_samples, dtype=np.float32))
    assert bands_db.shape == (N_BANDS, 2 if n_samples == 1_001 else 1)
    np.testing.assert_allclose(bands_db, -100, atol=1e-3)


def test_hours_take_no_more_memory_than_minutes() -> None:
    minute = np.random.default_rng(1).standard_normal(RATE_HZ * 60).astype(np.float32)
    made = Spectrogram()
    tracemalloc.start()
    for _ in range(60):
        for start in range(0, minute.size, 48_000):
            made.push(minute[start : start + 48_000])
    made.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10e6


def test_the_picture_has_a_pixel_for_each_cell() -> None:
    bands_db = np.full((N_BANDS, 30), -60.0, dtype=np.float32)
    bands_db[0, 3] = 0.0
    brightness = seen(bands_db)
    assert brightness.shape == (N_BANDS, 30)
    # The lowest band is the lowest line; high levels are light.
    assert brightness[-1, 3] > 240
    assert 0 < brightness[-1, 4] < 60


def test_silence_is_dark() -> None:
    silent = np.full((N_BANDS, 5), -100.0, dtype=np.float32)
    assert seen(silent).max() < 5
