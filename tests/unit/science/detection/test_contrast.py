"""Segments of steady noise do not differ from the noise around them; sounds over it do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.detection.chunks import RATE_HZ, STEP, Grid
from actors.science.detection.contrast import Surroundings
from actors.science.detection.decoding import Segment
from actors.science.detection.inference import in_memory
from tests.support.metering import measure

N_SECONDS = 40
NOISE = np.random.default_rng(0).normal(0, 0.01, N_SECONDS * RATE_HZ).astype(np.float32)


def around(samples: np.ndarray) -> Surroundings:
    return Surroundings(in_memory(samples), Grid(samples.size), measure(samples, RATE_HZ))


STEADY = around(NOISE)


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


def test_what_is_in_segments_for_most_of_the_time_is_kept() -> None:
    """As rain is that lasts, with short gaps."""
    segments = [Segment(first, first + 40) for first in range(0, 400, 50)]
    assert all(STEADY.differ(each, segments) for each in segments)
    few = segments[::2]
    assert not any(STEADY.differ(each, few) for each in few)


def test_what_fills_the_recording_is_kept() -> None:
    short = around(NOISE[: 3 * RATE_HZ])
    assert short.differ(Segment(0, 30), [Segment(0, 30)])
    # Less than two seconds are left to compare it with.
    assert short.differ(Segment(0, 15), [Segment(0, 15)])


def test_the_lead_of_the_grid_is_counted() -> None:
    sound = NOISE.copy()
    sound[20 * RATE_HZ : 21 * RATE_HZ] *= 2
    lead = 2 * STEP
    grid = Grid(sound.size, lead=lead)
    found = Surroundings(in_memory(sound), grid, measure(sound, RATE_HZ))
    first = (20 * RATE_HZ + lead) // STEP
    assert found.differ(Segment(first, first + 10), [])
    assert not STEADY.differ(Segment(first, first + 10), [])
