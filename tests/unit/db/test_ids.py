"""IDs of new rows are UUIDs of version 7, in the order of their creation."""

from __future__ import annotations

import itertools
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import ids

#: Half an hour in steps of up to two seconds, also back.
CLOCKS = st.lists(st.integers(-2_000, 2_000), min_size=2, max_size=900)


def time_ms(made: uuid.UUID) -> int:
    return made.int >> 80


def test_an_id_has_the_version_and_the_variant_of_rfc_9562() -> None:
    for made in (ids.new_id() for _ in range(1_000)):
        assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_an_id_begins_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = ids.new_id()
    assert before <= time_ms(made) <= time.time_ns() // 1_000_000


def test_ids_of_one_process_ascend() -> None:
    made = [ids.new_id() for _ in range(20_000)]
    assert all(one < other for one, other in itertools.pairwise(made))
    # As text and as bytes too, which is how clients and Postgres compare them.
    assert sorted(map(str, made)) == list(map(str, made))
    assert sorted(each.bytes for each in made) == [each.bytes for each in made]


@given(steps_ms=CLOCKS)
def test_ids_ascend_whatever_the_clock_does(steps_ms: list[int]) -> None:
    clock_ms = iter(itertools.accumulate(steps_ms, initial=1_700_000_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: next(clock_ms) * 1_000_000)
        process = ids._Ids()
        made = [process.new() for _ in steps_ms]
    assert all(one < other for one, other in itertools.pairwise(made))
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}


def test_threads_never_get_the_same_id() -> None:
    n_threads, n_each = 8, 5_000
    with ThreadPoolExecutor(n_threads) as pool:
        made = pool.map(lambda _: [ids.new_id() for _ in range(n_each)], range(n_threads))
    of_threads = list(made)
    assert len(set(itertools.chain.from_iterable(of_threads))) == n_threads * n_each
    for of_one in of_threads:
        assert of_one == sorted(of_one)


def test_processes_that_begin_at_the_same_time_get_other_ids() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
        made = {ids._Ids().new() for _ in range(2_000)}
    assert len(made) == 2_000


def test_the_counter_has_room_for_a_clock_that_stands_still() -> None:
    """It starts in the lower half of its range, so its top bit is 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
        assert all((ids._Ids().new().int >> 75) & 1 == 0 for _ in range(500))
