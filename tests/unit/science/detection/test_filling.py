"""Filled holes: equal for any division into reads, as loud as their neighbours, and cheap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actors.science.detection.filling import GUARD_S, REACH_S, filled
from actors.science.detection.holes import Interval
from actors.science.detection.inference import in_memory

Samples = NDArray[np.float32]

RATE_HZ = 1_000
N_SAMPLES = 30 * RATE_HZ
GUARD = round(GUARD_S * RATE_HZ)

holes_of_any_kind = st.lists(
    st.tuples(st.floats(0, 30), st.floats(0.001, 15)).map(lambda each: (each[0], sum(each))),
    max_size=6,
)


def noise(n_samples: int = N_SAMPLES) -> Samples:
    return np.random.default_rng(0).normal(size=n_samples).astype(np.float32)


def with_holes(samples: Samples, holes: list[Interval]) -> Samples:
    """Return a recording with zeros in its holes."""
    samples = samples.copy()
    for start_s, end_s in holes:
        samples[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)] = 0.0
    return samples


def filled_whole(samples: Samples, holes: list[Interval]) -> Samples:
    read = filled(in_memory(samples), holes, n_samples=samples.size, rate_hz=RATE_HZ)
    return read(0, samples.size)


@given(holes=holes_of_any_kind, cuts=st.lists(st.integers(0, N_SAMPLES), max_size=6))
def test_any_division_into_reads_gives_the_same_samples(
    holes: list[Interval], cuts: list[int]
) -> None:
    samples = with_holes(noise(), holes)
    read = filled(in_memory(samples), holes, n_samples=N_SAMPLES, rate_hz=RATE_HZ)
    bounds = sorted([-500, *cuts, N_SAMPLES + 500])
    parts = [read(start, stop) for start, stop in pairwise(bounds)]
    whole = np.pad(filled_whole(samples, holes), 500)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@given(holes=holes_of_any_kind)
def test_what_is_in_a_hole_does_not_matter_and_the_rest_is_unchanged(holes: list[Interval]) -> None:
    sound = noise()
    found = filled_whole(with_holes(sound, holes), holes)
    np.testing.assert_array_equal(found, filled_whole(sound, holes))
    at_s = np.arange(N_SAMPLES) / RATE_HZ
    is_near = np.zeros(N_SAMPLES, dtype=bool)
    for start_s, end_s in holes:
        is_near |= (at_s > start_s - GUARD_S - 0.002) & (at_s < end_s + GUARD_S + 0.002)
    np.testing.assert_array_equal(found[~is_near], sound[~is_near])


@pytest.mark.parametrize(
    "holes",
    [
        [(0.0, 10.0)],
        [(20.0, 30.0)],
        [(8.0, 20.0)],
        [(8.0, 12.0), (12.0, 20.0)],
        [(5.0, 8.0), (9.0, 12.0), (12.5, 20.0)],
        [(10.0, 10.001)],
    ],
)
def test_noise_keeps_its_level_in_holes(holes: list[Interval]) -> None:
    found = filled_whole(with_holes(noise(), holes), holes)
    power = np.square(found).reshape(-1, RATE_HZ).mean(axis=1)
    np.testing.assert_allclose(10 * np.log10(power), 0.0, atol=1.0)


def test_a_hole_fades_from_the_level_before_it_to_that_after_it() -> None:
    sound = noise() * np.where(np.arange(N_SAMPLES) < 15 * RATE_HZ, 1.0, 0.1).astype(np.float32)
    found = filled_whole(with_holes(sound, [(10.0, 20.0)]), [(10.0, 20.0)])
    level_db = 10 * np.log10(np.square(found).reshape(-1, RATE_HZ).mean(axis=1))
    assert level_db[10] == pytest.approx(0.0, abs=1.0)
    assert level_db[19] == pytest.approx(-20.0, abs=3.0)
    # Mirrored sound continues at the edges.
    assert found[10 * RATE_HZ - GUARD] == pytest.approx(found[10 * RATE_HZ - GUARD - 1], abs=0.01)
    assert found[20 * RATE_HZ + GUARD - 1] == pytest.approx(found[20 * RATE_HZ + GUARD], abs=0.01)


def test_a_recording_that_is_one_hole_is_silent() -> None:
    assert not filled_whole(noise(), [(0.0, 31.0)]).any()


def test_without_holes_the_reader_is_the_same() -> None:
    read = in_memory(noise())
    assert filled(read, [], n_samples=N_SAMPLES, rate_hz=RATE_HZ) is read


@pytest.mark.parametrize(("on_s", "off_s"), [(0.05, 0.2), (1.0, 3.0), (2.0, 1_000.0)])
def test_many_holes_take_few_further_reads(on_s: float, off_s: float) -> None:
    """As of a recorder with a trigger: on and off a thousand times."""
    period_s = on_s + off_s
    holes = [(on_s + index * period_s, (index + 1) * period_s) for index in range(1_000)]
    n_samples = round(1_000 * period_s * RATE_HZ)
    lengths: list[int] = []

    def read(start: int, stop: int) -> Samples:
        lengths.append(stop - start)
        return np.zeros(stop - start, dtype=np.float32)

    counted = filled(read, holes, n_samples=n_samples, rate_hz=RATE_HZ)
    spans = range(0, n_samples, 60 * RATE_HZ)[:200]
    for start in spans:
        counted(start, start + 60 * RATE_HZ)
    assert len(lengths) <= 3 * len(spans)
    lengths.clear()
    # Chunks of two seconds one after the other, as segments are classified.
    for start in range(0, 100 * RATE_HZ, 2 * RATE_HZ):
        counted(start, start + 2 * RATE_HZ)
    assert max(lengths) <= REACH_S * RATE_HZ
    assert sum(lengths) <= 4 * 100 * RATE_HZ
