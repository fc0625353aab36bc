"""The baton: as many threads as it has, first come, first served."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import pytest

from actors.execution.baton import Baton
from tests.support.cluster import eventually


class Interrupted(BaseException):
    """Raised in a thread that waits."""


def waiting(baton: Baton, then: Callable[[], object]) -> threading.Thread:
    """Start a thread that waits for the baton; return when it waits."""
    before = len(baton._waiting)

    def work() -> None:
        try:
            with baton:
                then()
        except Interrupted:
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    eventually(lambda: len(baton._waiting) > before, what="a thread that waits")
    return thread


def test_threads_work_in_the_order_in_which_they_asked() -> None:
    baton, order = Baton(), list[int]()
    with baton:
        threads = [waiting(baton, lambda n=n: order.append(n)) for n in range(5)]  # type: ignore[misc]
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_a_thread_that_passes_it_on_works_after_those_that_wait() -> None:
    baton, order = Baton(), list[str]()
    with baton:
        threads = [waiting(baton, lambda n=n: order.append(n)) for n in "ab"]  # type: ignore[misc]
        baton.pass_on()
        order.append("mine")
        # Nobody waits now.
        baton.pass_on()
    for thread in threads:
        thread.join(10)
    assert order == ["a", "b", "mine"]


@pytest.mark.parametrize("n_holders", [1, 3])
def test_no_more_threads_than_holders_work_at_a_time(n_holders: int) -> None:
    baton, lock = Baton(n_holders), threading.Lock()
    working, most = 0, 0

    def piece() -> None:
        nonlocal working, most
        for _ in range(50):
            with lock:
                working += 1
                most = max(most, working)
            with lock:
                working -= 1
            baton.pass_on()

    def work() -> None:
        with baton:
            piece()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 0 < most <= n_holders


def test_a_wait_that_is_interrupted_leaves_the_baton_to_the_next() -> None:
    baton, done = Baton(), list[str]()
    with baton:
        first = waiting(baton, lambda: done.append("first"))
        second = waiting(baton, lambda: done.append("second"))
        assert first.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(first.ident), ctypes.py_object(Interrupted)
        )
    for thread in (first, second):
        thread.join(10)
    assert done == ["second"]
    with baton:
        third = waiting(baton, lambda: done.append("third"))
        assert done == ["second"]
    third.join(10)
    assert done == ["second", "third"]


def test_nothing_waits_for_an_open_baton() -> None:
    baton, done = Baton(), threading.Event()
    with baton:
        waiting(baton, done.set)
        baton.open()
        assert done.wait(10)
