"""Features: equal for any division into slices and any gain, and always finite."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science import synth
from actors.science.detection.chunks import HOP, MAX_CHUNK, MIN_CHUNK
from actors.science.detection.features import FEATURE_VERSION, MARGIN, N_FEATURES, extract
from tests.support.sounds import EXTREMES, extreme

N_SAMPLES = 10 * 16_000 + 4_321


def recording() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    sound = synth.siren_sweep(rng, N_SAMPLES, 16_000) * np.float32(0.1)
    return sound + synth.background_bed(rng, N_SAMPLES, 16_000) * np.float32(0.01)


SOUND = np.pad(recording(), MARGIN)


def features_of(start: int, stop: int, *, chunk: int) -> NDArray[np.float32]:
    """Return features of the chunks of an interval, from the slice of this interval alone."""
    ranges = [(first, first + chunk) for first in range(0, stop - start - chunk + 1, chunk)]
    return extract(SOUND[start : stop + 2 * MARGIN], ranges)


@settings(max_examples=15)
@given(data=st.data(), chunk=st.integers(MIN_CHUNK // HOP, MAX_CHUNK // HOP).map(lambda n: n * HOP))
def test_any_cut_into_slices_gives_the_same_features(data: st.DataObject, chunk: int) -> None:
    stop = N_SAMPLES // chunk * chunk
    inner = st.sampled_from(range(chunk, stop, chunk))
    bounds = [0, *sorted(data.draw(st.sets(inner, max_size=4))), stop]
    by_slice = [features_of(first, last, chunk=chunk) for first, last in pairwise(bounds)]
    np.testing.assert_allclose(
        np.concatenate(by_slice), features_of(0, stop, chunk=chunk), atol=2e-3
    )


@pytest.mark.parametrize("length", [MIN_CHUNK, MIN_CHUNK + 1, 16_000, 23_999, MAX_CHUNK])
@pytest.mark.parametrize("kind", EXTREMES)
def test_features_are_finite_whatever_comes(length: int, kind: str) -> None:
    samples = extreme(kind, length + 2 * MARGIN)
    found = extract(samples, [(0, length)])
    assert found.shape == (1, N_FEATURES)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_gain_changes_nothing() -> None:
    ranges = [(0, 16_000), (16_000, 32_000)]
    part = SOUND[: 32_000 + 2 * MARGIN]
    np.testing.assert_allclose(
        extract(part * np.float32(0.1), ranges), extract(part, ranges), atol=0.05
    )


def test_chunks_of_different_lengths_keep_their_order() -> None:
    ranges = [(0, 16_000), (16_000, 24_000), (24_000, 40_000), (40_000, 120_000)]
    together = extract(SOUND[: 120_000 + 2 * MARGIN], ranges)
    for row, (start, stop) in zip(together, ranges, strict=True):
        alone = extract(SOUND[start : stop + 2 * MARGIN], [(0, stop - start)])
        np.testing.assert_allclose(row, alone[0], atol=2e-3)


@pytest.mark.parametrize("chunk", [(1, 16_001), (0, MIN_CHUNK - 1), (-HOP, 16_000), (0, 200_000)])
def test_a_chunk_off_the_grid_or_the_slice_is_refused(chunk: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="chunk"):
        extract(SOUND, [chunk])


def test_no_chunks_have_no_features() -> None:
    assert extract(SOUND, []).shape == (0, N_FEATURES)
    assert FEATURE_VERSION
