"""Which connections the guard ends, and that it ends them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count

import pytest

from services.http import connection_guard
from services.http.connection_guard import (
    FIRST_BYTE_S,
    IDLE_S,
    SLOWEST_BYTES_PER_S,
    WINDOW_S,
    ConnectionGuard,
    ConnectionLimits,
    Reading,
    Rules,
)

MANY = ConnectionLimits(total=1_000, per_address=1_000)
NEW = Reading(inode=7, address="192.0.2.1", n_received=0, n_acked=0, n_unsent=0, n_unread=0)
ASKED = replace(NEW, n_received=300)


def end(at: Callable[[float], Reading], *, seconds: float = 300.0) -> tuple[str, float] | None:
    """Return why and when a connection with the readings of ``at`` is ended."""
    rules = Rules(MANY)
    for now_s in range(int(seconds)):
        if reason := rules.judge([at(now_s)], now_s).get(NEW.inode):
            return reason, now_s
    return None


def test_a_connection_must_speak() -> None:
    reason, at_s = end(lambda _: NEW) or ("", 0.0)
    assert (reason, at_s) == ("first_byte", FIRST_BYTE_S + 1)


def test_a_silent_one_is_ended_later() -> None:
    reason, at_s = end(lambda _: ASKED) or ("", 0.0)
    assert (reason, at_s) == ("idle", IDLE_S + 1)


def test_an_answer_must_be_read() -> None:
    reason, at_s = end(lambda s: replace(ASKED, n_unsent=10_000, n_acked=int(s) * 10)) or ("", 0.0)
    assert reason == "slow_answer"
    assert at_s <= WINDOW_S + 1


def test_a_body_must_arrive() -> None:
    reason, at_s = end(lambda s: replace(ASKED, n_received=300 + int(s) * 10)) or ("", 0.0)
    assert reason == "slow_body"
    assert at_s <= WINDOW_S + 1
    # One byte just before each end of the time of silence.
    pause_s = IDLE_S - 10
    reason, at_s = end(lambda s: replace(ASKED, n_received=300 + int(s // pause_s))) or ("", 0.0)
    assert (reason, at_s) == ("slow_body", pause_s)


FAST = 2 * SLOWEST_BYTES_PER_S


@pytest.mark.parametrize(
    "at",
    [
        # An upload, and one that pauses now and then.
        lambda s: replace(ASKED, n_received=300 + int(s) * FAST),
        lambda s: replace(ASKED, n_received=300 + int(s // 40) * 40 * FAST),
        # A download.
        lambda s: replace(ASKED, n_unsent=10_000, n_acked=int(s) * FAST),
        # An event stream: a few bytes each ten seconds, which are read.
        lambda s: replace(ASKED, n_acked=int(s // 10) * 20),
        # Small requests over one connection, one each five seconds, some of them just under way.
        lambda s: replace(
            ASKED,
            n_received=300 * (1 + int(s // 5)),
            n_acked=200 * int((s + 4) // 5),
            n_unsent=200 * (s % 5 == 0),
        ),
        # A request that takes the server a while, and came in two parts.
        lambda s: replace(ASKED, n_received=200 + 100 * (s >= 1), n_acked=300 * int(s // 50)),
        # A server that is slow to read.
        lambda s: replace(ASKED, n_received=300 + int(s) * 10, n_unread=1),
    ],
)
def test_what_makes_progress_is_left(at: Callable[[float], Reading]) -> None:
    assert end(at) is None


def test_beyond_a_limit_the_longest_silent_ones_are_ended() -> None:
    rules = Rules(ConnectionLimits(total=6, per_address=4))
    numbers = count()

    def opened(address: str) -> Reading:
        return replace(ASKED, inode=next(numbers), address=address)

    one = [opened("192.0.2.1") for _ in range(3)]
    assert rules.judge(one, 0) == {}
    one += [opened("192.0.2.1") for _ in range(3)]
    # The first one has just sent something.
    one[0] = replace(one[0], n_received=400)
    assert rules.judge(one, 1) == {1: "address_limit", 2: "address_limit"}
    others = [opened(f"192.0.2.{number}") for number in range(2, 6)]
    left = [each for each in one if each.inode not in (1, 2)]
    ended = rules.judge(left + others, 2)
    assert set(ended.values()) == {"limit"}
    assert set(ended) < {each.inode for each in one}
    assert len(ended) == 2


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


@pytest.mark.skipif(sys.platform != "linux", reason="the guard is for Linux")
def test_it_ends_a_real_connection_and_no_other(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0.0, FIRST_BYTE_S, FIRST_BYTE_S + 1))
    guard = ConnectionGuard(MANY, clock=lambda: next(clock))
    address = listener.getsockname()
    with (
        closing(socket.create_connection(address)) as silent,
        closing(listener.accept()[0]),
        closing(socket.create_connection(address)) as speaks,
        closing(listener.accept()[0]) as served,
    ):
        speaks.sendall(b"GET")
        for _ in range(3):
            guard.look()
        silent.settimeout(10)
        assert silent.recv(1) == b""
        served.sendall(b"x")
        assert speaks.recv(1) == b"x"
    ended = [
        (sample.labels["reason"], sample.value)
        for family in guard.collect()
        for sample in family.samples
        if "reason" in sample.labels
    ]
    assert ("first_byte", 1.0) in ended


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_host_counts_as_one_address(address: str, counted: str) -> None:
    assert connection_guard._host(address) == counted
