"""A bucket that does not answer costs a bounded wait, and the calls after it none."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from db.blobs import breaker
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing, StorageUnavailable
from db.blobs.patience import Patience
from db.process_metrics import REGISTRY
from tests.support import s3
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

WAITS = Patience(attempt_s=1.0, retries_s=0.1)
#: What a busy machine may add.
SLACK_S = 1.5


def write(blobs: Blobs) -> None:
    with blobs.writer("w") as file:
        file.write(bytes(12_000_000))


CALLS: dict[str, Callable[[Blobs], object]] = {
    "get": lambda blobs: blobs.get("a"),
    "open": lambda blobs: blobs.open("a"),
    "put": lambda blobs: blobs.put("a", b"1"),
    "put_pieces": lambda blobs: blobs.put("a", iter([bytes(6_000_000)] * 2)),
    "writer": write,
    "keys": lambda blobs: blobs.keys(""),
    "delete": lambda blobs: blobs.delete("a"),
    "copy": lambda blobs: blobs.copy("a", "b"),
    "check": lambda blobs: blobs.check(),
}


@pytest.fixture(params=["silent", "dropping"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blobs]:
    """A server that accepts connections and is silent, or whose network drops packets."""
    with ExitStack() as stack:
        server = stack.enter_context(closing(socket.socket()))
        server.bind(("127.0.0.1", 0))
        place = server.getsockname()
        server.listen(0 if request.param == "dropping" else 128)
        if request.param == "dropping":
            # The kernel drops further attempts to connect while the queue is full.
            for _ in range(4):
                waiting = stack.enter_context(closing(socket.socket()))
                waiting.setblocking(False)
                waiting.connect_ex(place)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{place[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": s3.KEY_ID,
            "AWS_SECRET_ACCESS_KEY": s3.SECRET,
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield Blobs(f"s3://{s3.BUCKET}", waits=WAITS)


def is_well(blobs: Blobs) -> bool:
    try:
        blobs.check()
    except StorageUnavailable:
        return False
    return True


def n_asked() -> float:
    """Return how often a bucket was asked in vain by this process."""
    return REGISTRY.get_sample_value("clamor_blob_errors_total", {"error": "unavailable"}) or 0.0


def failed_s(
    call: Callable[[Blobs], object],
    blobs: Blobs,
    error: type[Exception] = StorageUnavailable,
) -> float:
    began = time.monotonic()
    with pytest.raises(error):
        call(blobs)
    return time.monotonic() - began


@pytest.mark.parametrize("name", CALLS)
def test_every_call_ends_in_time(bucket: Blobs, name: str) -> None:
    assert 0.5 < failed_s(CALLS[name], bucket) < WAITS.attempt_s + SLACK_S


def test_calls_after_a_failure_fail_at_once(bucket: Blobs) -> None:
    with ThreadPoolExecutor(16) as callers:
        first = list(callers.map(lambda _: failed_s(CALLS["get"], bucket), range(16)))
    assert max(first) < WAITS.attempt_s + SLACK_S
    began = time.monotonic()
    for call in (CALLS["get"], CALLS["put"], CALLS["writer"], CALLS["delete"]):
        failed_s(call, bucket)
    assert time.monotonic() - began < 0.5


def test_a_bucket_is_asked_at_growing_pauses_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.2)
    with s3.private_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        blobs = Blobs(f"s3://{s3.BUCKET}", waits=WAITS)
        eventually(lambda: is_well(blobs), what="the bucket")
        server.freeze()
        asked_before, n_calls, began = n_asked(), 0, time.monotonic()
        while time.monotonic() - began < 8.0:
            failed_s(CALLS["get"], blobs)
            n_calls += 1
            time.sleep(0.01)
        # After 0.2, 0.4, 0.8, 1.6 s and so on, each time for a second: not hundreds of times.
        assert 2 <= n_asked() - asked_before <= 5 < n_calls
        server.thaw()
        # A probe ends the pause.
        eventually(lambda: is_well(blobs), what="the bucket")
        assert failed_s(CALLS["get"], blobs, BlobMissing) < SLACK_S


def test_what_is_held_in_memory_says_nothing_about_the_bucket(bucket: Blobs) -> None:
    failed_s(CALLS["get"], bucket)
    with bucket.in_memory("held"):
        bucket.put("held", b"1")
        assert bucket.get("held") == b"1"
    assert failed_s(CALLS["get"], bucket) < 0.5
