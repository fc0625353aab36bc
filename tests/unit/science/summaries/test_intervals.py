"""Unions of time intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.science.summaries.intervals import covered_s

TIMES = st.integers(0, 60)


@given(bounds=st.lists(st.tuples(TIMES, TIMES).map(sorted), max_size=12))
def test_overlaps_are_covered_once(bounds: list[list[int]]) -> None:
    is_covered = np.zeros(60, dtype=np.bool_)
    for start, stop in bounds:
        is_covered[start:stop] = True
    assert covered_s((start / 4, stop / 4) for start, stop in bounds) == pytest.approx(
        is_covered.sum() / 4
    )
