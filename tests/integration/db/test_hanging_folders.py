"""A folder whose file system hangs costs a bounded wait, and the calls after it none."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import msgspec
import pytest

from db.blobs.file_calls import CallThreads
from tests.support.hanging_files import HangingFolder

pytestmark = pytest.mark.integration

ANSWER_S = 1.0
#: What a busy machine may add.
SLACK_S = 1.5

#: Makes each call while the folder hangs, then all of them at once, then after it is back.
PROGRAM = """
import json, os, sys, threading, time
from pathlib import Path
from db.blobs.blob_store import Blobs
from db.blobs.errors import StorageUnavailable
from db.blobs.patience import Patience

blobs = Blobs(sys.argv[1], waits=Patience(attempt_s=float(sys.argv[2]), retries_s=0.0))
flag = Path(os.environ["HANG_WHILE"])
blobs.put("k/a", bytes(range(256)) * 10_000)
source = blobs.open("k/a")

def write():
    with blobs.writer("k/large") as file:
        file.write(bytes(3_000_000))

def behind():
    with blobs.behind("k/behind"):
        blobs.put("k/behind", b"1")

CALLS = {
    "read": lambda: source.read(10),
    "get": lambda: blobs.get("k/a"),
    "get_range": lambda: blobs.get_range("k/a", start=0, length=1),
    "open": lambda: blobs.open("k/a"),
    "size": lambda: blobs.size("k/a"),
    "put": lambda: blobs.put("k/small", b"1"),
    "put_pieces": lambda: blobs.put("k/pieces", iter([b"1", b"2"])),
    "writer": write,
    "behind": behind,
    "copy": lambda: blobs.copy("k/a", "k/copy"),
    "delete": lambda: blobs.delete("k/missing"),
    "keys": lambda: blobs.keys(""),
    "pages": lambda: list(blobs.pages("")),
    "room": blobs.room,
    "check": blobs.check,
}

def failed_s(do):
    began = time.monotonic()
    try:
        do()
    except StorageUnavailable:
        return time.monotonic() - began
    return None

with blobs.writer("k/written") as out:
    out.write(bytes(1_500_000))
    flag.touch()
    first = {name: failed_s(do) for name, do in CALLS.items() if name == "writer"}
    refused = {name: failed_s(do) for name, do in CALLS.items()}
    flag.unlink()
    while failed_s(blobs.check) is not None:
        time.sleep(0.01)
took = {}
for name, do in CALLS.items():
    flag.touch()
    took[name] = failed_s(do)
    n_threads = threading.active_count()
    flag.unlink()
    while failed_s(blobs.check) is not None:
        time.sleep(0.01)
flag.touch()
failed_s(CALLS["get"])
left = [failed_s(CALLS["get"]) for _ in range(500)]
n_hanging = threading.active_count()
flag.unlink()
while failed_s(blobs.check) is not None:
    time.sleep(0.01)
again = {name: failed_s(do) for name, do in CALLS.items()}
print(json.dumps({
    "first": first, "refused": refused, "took": took, "again": again, "n_hanging": n_hanging,
    "whole": source.read() == (bytes(range(256)) * 10_000)[10:],
    "keys": sorted(blobs.keys("")), "size": blobs.size("k/written"),
}))
flag.touch()
failed_s(CALLS["get"])
"""


class Found(msgspec.Struct):
    first: dict[str, float | None]
    refused: dict[str, float | None]
    took: dict[str, float | None]
    again: dict[str, float | None]
    n_hanging: int
    whole: bool
    keys: list[str]
    size: int


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = HangingFolder(tmp_path_factory.mktemp("hanging"))
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder.path.as_uri(), str(ANSWER_S)],
        env={**os.environ, **folder.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    # It ends although a call still hangs.
    assert ended.returncode == 0, ended.stderr
    return msgspec.json.decode(ended.stdout, type=Found)


def test_every_call_ends_in_time(found: Found) -> None:
    for name, took_s in {**found.first, **found.took}.items():
        assert took_s is not None, name
        assert ANSWER_S / 2 < took_s < ANSWER_S + SLACK_S, name


def test_calls_after_one_that_hangs_fail_at_once(found: Found) -> None:
    for name, took_s in found.refused.items():
        assert took_s is not None, name
    assert sum(filter(None, found.refused.values())) < ANSWER_S + SLACK_S
    # And leave no threads behind.
    assert found.n_hanging < len(found.took) + 5


def test_everything_resumes_and_nothing_is_lost(found: Found) -> None:
    assert set(found.again.values()) == {None}
    assert found.size == 1_500_000
    assert found.whole
    written = {"k/a", "k/behind", "k/copy", "k/large", "k/pieces", "k/small", "k/written"}
    assert set(found.keys) == written


def test_threads_are_used_again_and_as_many_as_calls_are_under_way() -> None:
    threads = CallThreads()
    may_end = threading.Event()
    calls = [threads.start(may_end.wait) for _ in range(3)]
    may_end.set()
    assert all(call.wait(5.0, on_late_end=may_end.clear) for call in calls)
    n_before = threading.active_count()
    for _ in range(100):
        call = threads.start(threading.get_ident)
        assert call.wait(5.0, on_late_end=may_end.clear)
        assert call.outcome() != threading.get_ident()
    assert threading.active_count() == n_before


def test_the_end_of_a_late_call_is_noted_and_errors_are_raised() -> None:
    threads = CallThreads()
    may_end, is_noted = threading.Event(), threading.Event()

    def fail() -> None:
        may_end.wait()
        raise ValueError("late")

    call = threads.start(fail)
    assert not call.wait(0.01, on_late_end=is_noted.set)
    may_end.set()
    assert is_noted.wait(5.0)
    with pytest.raises(ValueError, match="late"):
        call.outcome()
