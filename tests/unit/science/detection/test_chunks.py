"""The grid: frames, chunks and spans cover a recording, and are aligned to their grids."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.science.detection.chunks import (
    CHUNK,
    CHUNK_STEP,
    HOP,
    MAX_CHUNK,
    MIN_CHUNK,
    MIN_SPAN,
    RATE_HZ,
    SPAN_SAMPLES,
    STEP,
    Grid,
    count_steps,
    plan_chunks,
    plan_spans,
)

HOUR = 3_600 * RATE_HZ

lengths = st.one_of(
    st.integers(1, 4 * MAX_CHUNK),
    st.integers(1, 200).flatmap(lambda n: st.integers(-1, 1).map(lambda d: n * RATE_HZ + d or 1)),
    st.integers(1, 30 * HOUR),
)


def test_the_grids_fit_each_other() -> None:
    """Frames are whole hops, spans whole chunk hops, and chunks long enough for features."""
    assert STEP % HOP == 0
    assert CHUNK_STEP % STEP == 0
    assert SPAN_SAMPLES % CHUNK_STEP == 0
    assert MIN_CHUNK <= CHUNK <= MAX_CHUNK


@given(n_samples=lengths)
@example(n_samples=STEP)
@example(n_samples=STEP + 1)
def test_steps_cover_the_recording(n_samples: int) -> None:
    n_steps = count_steps(n_samples)
    assert (n_steps - 1) * STEP < n_samples <= n_steps * STEP


@given(n_samples=lengths)
@example(n_samples=SPAN_SAMPLES + MIN_SPAN - 1)
@example(n_samples=SPAN_SAMPLES + MIN_SPAN)
@example(n_samples=2 * SPAN_SAMPLES)
def test_spans_cover_the_recording_and_are_long_enough(n_samples: int) -> None:
    spans = plan_spans(n_samples)
    assert [span.index for span in spans] == list(range(len(spans)))
    assert (spans[0].start, spans[-1].stop) == (0, n_samples)
    assert all(before.stop == after.start for before, after in pairwise(spans))
    assert all(span.start % CHUNK_STEP == 0 for span in spans)
    assert all(span.stop - span.start < SPAN_SAMPLES + MIN_SPAN for span in spans)
    assert len(spans) == 1 or all(span.stop - span.start >= MIN_SPAN for span in spans)


@given(n_samples=lengths)
def test_spans_have_the_steps_of_the_whole(n_samples: int) -> None:
    by_span = [count_steps(span.stop - span.start) for span in plan_spans(n_samples)]
    assert sum(by_span) == count_steps(n_samples)


def test_an_hour_is_sixty_spans() -> None:
    assert len(plan_spans(HOUR)) == 60


@pytest.mark.parametrize("n_samples", [0, -1])
def test_a_recording_without_samples_is_refused(n_samples: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        plan_spans(n_samples)


@given(n_samples=st.integers(1, 70 * RATE_HZ))
@example(n_samples=1)
@example(n_samples=CHUNK_STEP)
@example(n_samples=CHUNK_STEP + 1)
def test_every_chunk_is_centred_on_its_two_steps(n_samples: int) -> None:
    planned = plan_chunks(n_samples)
    assert len(planned) == -(-count_steps(n_samples) // 2)
    for number, chunk in enumerate(planned):
        assert chunk.stop - chunk.start == CHUNK
        assert chunk.start % HOP == 0
        assert chunk.start + chunk.stop == (2 * number + 1) * CHUNK_STEP


@given(n_samples=lengths, frame=st.integers(0, 40 * HOUR), rate_hz=st.sampled_from([8_000, 44_100]))
def test_a_grid_has_the_loudest_sample_in_mid_step(
    n_samples: int, frame: int, rate_hz: int
) -> None:
    grid = Grid.hung_on(frame / rate_hz, n_samples=n_samples)
    assert 0 <= grid.lead < CHUNK_STEP
    assert grid.length == grid.lead + n_samples
    at = (frame / rate_hz * RATE_HZ + grid.lead) % STEP
    assert at == pytest.approx(STEP / 2, abs=0.51)


@given(loudest=st.integers(0, HOUR), shift=st.integers(0, HOUR))
def test_a_grid_moves_with_its_recording(loudest: int, shift: int) -> None:
    """Every sample keeps its distance from the start of its frame."""
    plain = Grid.hung_on(loudest / RATE_HZ, n_samples=1)
    moved = Grid.hung_on((loudest + shift) / RATE_HZ, n_samples=1)
    assert (moved.lead + shift - plain.lead) % CHUNK_STEP == 0
