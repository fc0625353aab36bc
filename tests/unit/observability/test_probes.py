"""Probes of a process without an API: what decides, what is shown, and what hangs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from actors.observability import cached_probe, probe_listener
from actors.observability.readiness import Readiness
from db.blobs.errors import StorageFull
from db.settings import SettingsError
from services.processes.server import free_port

Ask = Callable[[str], httpx.Response]


def passing() -> None:
    """A dependency that answers."""


def failing() -> None:
    """A dependency that fails with an error of a library."""
    raise OSError("postgresql://user:hidden@db")


def full() -> None:
    """A dependency that fails with an error that names the remedy."""
    raise StorageFull


def asking(readiness: Readiness, registry: CollectorRegistry | None = None) -> Ask:
    """Start a listener; return a function that asks it."""
    port = free_port()
    app = probe_listener.application(readiness, registry or CollectorRegistry())
    probe_listener.start(app, ("127.0.0.1", port))
    return lambda path: httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10)


@pytest.mark.parametrize(
    ("needed", "shown", "status", "checks"),
    [
        (passing, passing, 200, {"a": "ok", "b": "ok"}),
        (passing, failing, 200, {"a": "ok", "b": "away"}),
        (failing, passing, 503, {"a": "away", "b": "ok"}),
        (full, passing, 503, {"a": "the blob store has no room", "b": "ok"}),
    ],
)
def test_needed_checks_decide_and_others_are_shown(
    needed: Callable[[], None], shown: Callable[[], None], status: int, checks: dict[str, str]
) -> None:
    ask = asking(Readiness(needed={"a": needed}, shown={"b": shown}))
    answer = ask("/health/ready")
    assert answer.status_code == status
    assert answer.json()["checks"] == checks
    # It stays alive, so that nothing restarts it for the fault of another.
    assert ask("/health/live").status_code == 200
    assert "hidden" not in answer.text


def test_a_check_that_hangs_holds_no_probe_up() -> None:
    released = threading.Event()

    def hanging() -> None:
        released.wait(30)

    ask = asking(Readiness(needed={"a": hanging}))
    began = time.monotonic()
    assert ask("/health/ready").json()["checks"] == {"a": "away"}
    assert ask("/health/live").status_code == 200
    assert time.monotonic() - began < 2 * cached_probe.PATIENCE_S
    released.set()


def test_silent_connections_hold_no_probe_up() -> None:
    port = free_port()
    app = probe_listener.application(Readiness(needed={}), CollectorRegistry())
    probe_listener.start(app, ("127.0.0.1", port))
    silent = [
        socket.create_connection(("127.0.0.1", port)) for _ in range(2 * probe_listener.THREADS)
    ]
    deadline = time.monotonic() + 3 * probe_listener.PATIENCE_S
    status = 0
    while status != HTTPStatus.OK and time.monotonic() < deadline:
        try:
            status = httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=1).status_code
        except httpx.TransportError:
            time.sleep(0.1)
    for each in silent:
        each.close()
    assert status == HTTPStatus.OK


def test_metrics_and_nothing_else_are_served() -> None:
    registry = CollectorRegistry()
    Counter("made_up", "A counter", registry=registry).inc()
    ask = asking(Readiness(needed={}), registry)
    answer = ask("/metrics")
    assert "made_up_total 1.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert ask("/").status_code == 404
    assert json.loads(ask("/health/ready").text) == {"status": "ok", "checks": {}}


@pytest.fixture
def taken() -> Iterator[tuple[str, int]]:
    """An address at which a process of another command listens."""
    address = ("127.0.0.1", free_port())
    with socket.create_server(address, reuse_port=True):
        yield address


def test_an_address_that_another_command_has_is_refused(taken: tuple[str, int]) -> None:
    with pytest.raises(SettingsError, match="Address already in use"):
        probe_listener.require_free(taken)
    probe_listener.require_free(("127.0.0.1", free_port()))
