"""The places of uploads, downloads and event streams."""

from __future__ import annotations

import threading
import uuid

import pytest

from services.http.caller_errors import TooManyAtOnce
from services.http.places import Pool
from services.http.server_errors import ServerBusy

ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def test_a_user_has_a_share_and_others_the_rest() -> None:
    pool = Pool("uploads", 4, share=0.5)
    held = [pool.take(ONE), pool.take(ONE)]
    with pytest.raises(TooManyAtOnce, match="2 uploads"):
        pool.take(ONE)
    held += [pool.take(OTHER), pool.take(None)]
    with pytest.raises(ServerBusy, match="4 uploads"):
        pool.take(OTHER)
    assert (pool.held_by(ONE), pool.held_by(OTHER)) == (2, 1)
    for place in held * 2:
        place.close()
    assert (pool.held_by(ONE), pool.held_by(OTHER)) == (0, 0)
    pool.take(ONE)


def test_everybody_has_a_place_of_the_smallest_pool() -> None:
    pool = Pool("uploads", 1, share=0.01)
    pool.take(ONE).close()
    pool.take(OTHER)


def test_threads_never_hold_more_than_there_are() -> None:
    pool = Pool("uploads", 5, share=1)
    most, lock, held = 0, threading.Lock(), 0

    def run() -> None:
        nonlocal most, held
        for _ in range(500):
            try:
                place = pool.take(ONE)
            except ServerBusy:
                continue
            with lock:
                held += 1
                most = max(most, held)
            with lock:
                held -= 1
            place.close()

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < most <= 5
    assert pool.held_by(ONE) == 0
