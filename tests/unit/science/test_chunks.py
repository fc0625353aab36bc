"""The plan of chunks and spans: bounds, coverage, and the same plan span by span."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.science.chunks import (
    HOP,
    LARGEST_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    SPAN_SAMPLES,
    chunk_samples,
    plan_chunks,
    plan_spans,
)

HOUR = 3_600 * 16_000

lengths = st.one_of(
    st.integers(1, 4 * MAX_CHUNK),
    st.integers(1, 200).flatmap(lambda n: st.integers(-1, 1).map(lambda d: n * 16_000 + d or 1)),
    st.integers(1, 30 * HOUR),
)
sizes = st.integers(MIN_CHUNK // HOP, LARGEST_CHUNK // HOP).map(lambda n: n * HOP)


@given(n_samples=lengths)
@example(n_samples=1)
@example(n_samples=2 * HOUR)
@example(n_samples=2 * HOUR + 1)
def test_chunk_size_is_on_the_grid_and_within_its_bounds(n_samples: int) -> None:
    chunk = chunk_samples(n_samples)
    assert chunk % HOP == 0
    assert 16_000 <= chunk <= 72_000
    if n_samples <= 2 * HOUR:
        assert chunk == 16_000
    if n_samples <= 9 * HOUR:
        assert n_samples / chunk <= 7_200


@given(n_samples=lengths, chunk=sizes, skipped=st.integers(0, 50))
@example(n_samples=MIN_CHUNK - 1, chunk=16_000, skipped=0)
@example(n_samples=16_000 + MIN_CHUNK - 1, chunk=16_000, skipped=0)
@example(n_samples=16_000 + MIN_CHUNK, chunk=16_000, skipped=0)
@example(n_samples=LARGEST_CHUNK + MIN_CHUNK - 1, chunk=LARGEST_CHUNK, skipped=0)
def test_chunks_cover_a_stretch_within_the_bounds(n_samples: int, chunk: int, skipped: int) -> None:
    n_samples = min(n_samples, 500 * chunk)
    start = skipped * chunk
    planned = plan_chunks(start, start + n_samples, chunk=chunk)
    assert planned[0].start == start
    assert planned[-1].stop == start + n_samples
    assert all(a.stop == b.start for a, b in pairwise(planned))
    assert all(each.stop - each.start == chunk for each in planned[:-1])
    if n_samples < MIN_CHUNK:
        assert len(planned) == 1
    else:
        assert all(MIN_CHUNK <= each.stop - each.start <= MAX_CHUNK for each in planned)


@given(n_samples=st.integers(1, 8 * 60 * 16_000), chunk=sizes)
def test_spans_plan_the_same_chunks_as_the_whole(n_samples: int, chunk: int) -> None:
    spans = plan_spans(n_samples, chunk=chunk)
    by_span = [each for span in spans for each in plan_chunks(span.start, span.stop, chunk=chunk)]
    assert by_span == plan_chunks(0, n_samples, chunk=chunk)
    assert [span.index for span in spans] == list(range(len(spans)))
    assert all(span.start % HOP == 0 for span in spans)
    assert all(span.stop - span.start <= SPAN_SAMPLES + 2 * MAX_CHUNK for span in spans)


def test_an_hour_is_sixty_spans() -> None:
    assert len(plan_spans(HOUR, chunk=chunk_samples(HOUR))) == 60


@pytest.mark.parametrize(
    ("start", "stop", "chunk"),
    [
        (0, 0, 16_000),
        (5, 4, 16_000),
        (-1, 5, 16_000),
        (0, 9, 16_001),
        (0, 9, 7_800),
        (0, 9, 80_000),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(start: int, stop: int, chunk: int) -> None:
    with pytest.raises(ValueError, match=r"chunk|stretch"):
        plan_chunks(start, stop, chunk=chunk)
    with pytest.raises(ValueError, match="at least one"):
        chunk_samples(0)
