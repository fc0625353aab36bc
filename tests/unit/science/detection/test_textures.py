"""Textures: equal at any gain, always finite, and large where a pattern is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection import textures
from actors.science.detection.chunks import HOP, MAX_CHUNK, MIN_CHUNK, RATE_HZ
from actors.science.detection.cnn import N_MELS
from actors.science.detection.textures import N_TEXTURES, extract
from tests.support.sounds import EXTREMES, extreme

#: Axes of a vector of textures.
SHAPE = (len(textures.DILATIONS), textures.STATISTICS, textures.PATTERN_SIZE**2 - 1, textures.ZONES)


def sound(n_samples: int = 2 * RATE_HZ) -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    siren = synth.siren_sweep(rng, n_samples, RATE_HZ) * np.float32(0.1)
    return siren + synth.background_bed(rng, n_samples, RATE_HZ) * np.float32(0.01)


@pytest.mark.parametrize("length", [HOP, MIN_CHUNK, MIN_CHUNK + 1, 23_999, MAX_CHUNK])
@pytest.mark.parametrize("kind", EXTREMES)
def test_textures_are_finite_whatever_comes(length: int, kind: str) -> None:
    samples = extreme(kind, length)
    found = extract(samples)
    assert found.shape == (N_TEXTURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@settings(max_examples=15)
@given(gain_db=st.floats(-30.0, 20.0))
def test_gain_changes_nothing(gain_db: float) -> None:
    samples = sound()
    louder = samples * np.float32(10 ** (gain_db / 20))
    np.testing.assert_allclose(extract(louder), extract(samples), atol=0.02)


def test_what_is_flat_has_no_pattern() -> None:
    """Except at the edges, where the padding begins."""
    for over_time, over_bands in textures.DILATIONS:
        responses = textures.pattern_responses(torch.ones(200, N_MELS), over_time, over_bands)
        inner = responses[:, 6:-6, 4:-4].clone()
        inner[0, :, :, 0] = 0.0
        assert float(inner.abs().max()) < 1e-5


def test_responses_are_products_with_patterns() -> None:
    """Responses match their definition at each place."""
    size, half = textures.PATTERN_SIZE, textures.PATTERN_SIZE // 2
    frames = torch.randn(90, N_MELS, generator=torch.Generator().manual_seed(1))
    cosines = textures.cosine_basis().double()
    np.testing.assert_allclose(cosines @ cosines.T, np.eye(size), atol=1e-6)
    patterns = torch.einsum("it,jf->itfj", textures.cosine_basis(), textures.cosine_basis())
    for over_time, over_bands in textures.DILATIONS:
        found = textures.pattern_responses(frames, over_time, over_bands)
        padded = torch.nn.functional.pad(frames, [half * over_bands] * 2 + [half * over_time] * 2)
        assert found.shape == (size, 23, N_MELS // 2, size)
        for time, band in ((0, 0), (5, 7), (22, 31)):
            first, lowest = 4 * time, 2 * band
            square = padded[
                first : first + size * over_time : over_time,
                lowest : lowest + size * over_bands : over_bands,
            ]
            wanted = torch.einsum("itfj,tf->ij", patterns, square)
            np.testing.assert_allclose(found[:, time, band], wanted, atol=1e-5, rtol=1e-4)


def test_a_pattern_is_counted_in_its_zone() -> None:
    """The line of a steady tone is a pattern over bands, not over time."""
    times = np.arange(2 * RATE_HZ) / RATE_HZ
    tone = (0.1 * np.sin(2 * np.pi * 440.0 * times)).astype(np.float32)
    occurs = extract(tone).reshape(SHAPE)[0, 0]
    over_bands = occurs[:6].max(axis=0)  # Order 0 in time, 1 to 6 in bands.
    over_time = occurs[6::7].max(axis=0)  # Order 0 in bands.
    assert over_bands[1] > 0.1
    assert over_time[1] < 0.05


def test_time_reversed_edges_are_told_apart() -> None:
    """A decaying sound and a rising one respond to opposite patterns."""
    n_samples = 2 * RATE_HZ
    noise = np.random.default_rng(1).normal(size=n_samples)
    decay = np.exp(-8.0 * (np.arange(n_samples) % (RATE_HZ // 2)) / RATE_HZ)
    fades = extract((0.1 * noise * decay).astype(np.float32)).reshape(SHAPE)
    swells = extract((0.1 * noise * decay[::-1]).astype(np.float32)).reshape(SHAPE)
    first_order = 6  # Order 1 in time, 0 in bands: positive where the level falls.
    positive, negative = fades[-1, 0, first_order], fades[-1, 1, first_order]
    assert (positive > negative).all()
    assert (swells[-1, 0, first_order] < swells[-1, 1, first_order]).all()
