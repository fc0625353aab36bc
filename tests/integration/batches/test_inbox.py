"""Batches of recordings in the inbox of the blob store."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from db.blobs.keys import is_inbox_key, recording_key
from db.queries import batch_queries
from tests.integration.batches.calls import (
    PAGE,
    assert_problem,
    count_sessions,
    expand,
    fill,
    items,
    look,
    name,
    work,
)
from tests.support.api import Api

pytestmark = pytest.mark.integration


def test_named_recordings_are_copied_and_missing_ones_told(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    keys = fill(runtime, 2, clip)
    runtime.blobs.put("inbox/empty", b"")
    posted = name(api, {"keys": [keys[1], "inbox/none.wav", "inbox/empty", keys[0]]})
    assert posted.status_code == 202, posted.text
    assert (posted.json["state"], posted.json["files"]) == ("expanding", {"waiting": 4})
    work(runtime)
    batch = look(api, posted.json)
    assert batch["files"] == {"completed": 2, "refused": 2}
    found = items(api, batch)
    assert [item["key"] for item in found] == [keys[1], "inbox/none.wav", "inbox/empty", keys[0]]
    assert "inbox/" in found[1]["reason"]
    assert "empty" in found[2]["reason"]
    # The operator's file stays unchanged, and the session no longer needs it.
    assert runtime.blobs.get(keys[0]) == clip
    runtime.blobs.put(keys[0], b"another")
    assert runtime.blobs.get(recording_key(uuid.UUID(found[3]["session_id"]))) == clip


def test_named_recordings_exceed_a_quota_by_one_at_most(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    runtime.settings = replace(runtime.settings, max_audio_s_per_month=0.5)
    posted = name(api, {"keys": fill(runtime, 4, clip)})
    work(runtime)
    batch = look(api, posted.json)
    assert batch["files"] == {"completed": 1, "failed": 3}


def test_a_file_that_was_copied_before_a_restore_may_have_left_the_inbox(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    """The dump is older than the copy, and the operator has emptied the inbox since."""
    keys = fill(runtime, 1, clip)
    posted = name(api, {"keys": keys})
    session_id = batch_queries.session_id_of(uuid.UUID(posted.json["id"]), 0)
    runtime.blobs.copy(keys[0], recording_key(session_id))
    runtime.blobs.delete(keys[0])
    work(runtime)
    assert look(api, posted.json)["files"] == {"completed": 1}
    assert runtime.blobs.get(recording_key(session_id)) == clip


def test_named_recordings_have_the_times_that_are_given(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    keys = fill(runtime, 3, clip)
    runtime.blobs.put("inbox/20240702_064404.flac", clip)
    keys[2] = "inbox/20240702_064404.flac"
    times = ["2026-03-14T09:00:00+01:00", None, None]
    posted = name(api, {"keys": keys, "recorded_at": times})
    assert posted.status_code == 202, posted.text
    waiting = [item["recorded_at"] for item in items(api, posted.json)]
    assert waiting == ["2026-03-14T08:00:00Z", None, None]
    work(runtime)
    # The others are looked for in the files.
    found = ["2026-03-14T08:00:00Z", None, "2024-07-02T06:44:04Z"]
    assert [item["recorded_at"] for item in items(api, posted.json)] == found


@pytest.mark.parametrize(
    "body",
    [
        {"keys": ["inbox/a", "inbox/b"], "recorded_at": [None]},
        {"prefix": "inbox/", "recorded_at": [None]},
        {"keys": ["inbox/a"], "recorded_at": ["2026-03-14T09:00:00"]},
        {"keys": ["inbox/a"], "recorded_at": ["1859-03-14T09:00:00Z"]},
        {"keys": ["inbox/a"], "recorded_at": ["yesterday"]},
    ],
)
def test_times_that_fit_no_recording_are_refused(
    api: Api, runtime: Runtime, body: dict[str, Any]
) -> None:
    refused = name(api, body)
    assert_problem(refused, 400, "invalid-body")
    assert refused.json["errors"][0]["field"].startswith("recorded_at")
    assert count_sessions(runtime) == 0


def test_a_prefix_is_a_folder_and_may_not_be_empty_or_too_full(api: Api, runtime: Runtime) -> None:
    keys = fill(runtime, 3, folder="a")
    fill(runtime, runtime.settings.max_batch_items + 1, folder="ab")
    taken, empty, full = (
        name(api, {"prefix": f"inbox/{folder}"}).json for folder in ("a", "none", "ab")
    )
    for batch in (taken, empty, full):
        for _ in range(4):
            expand(runtime, batch)
    assert [item["key"] for item in items(api, taken)] == keys
    assert look(api, taken)["state"] == "processing"
    assert look(api, empty)["problem"]["code"] == "nothing-found"
    assert (look(api, full)["state"], look(api, full)["files_total"]) == ("failed", 0)
    assert look(api, full)["problem"]["code"] == "too-many-files"


@pytest.mark.parametrize(
    "key",
    [
        "sessions/7/recording",
        "inbox",
        "inbox/",
        "inboxes/a",
        "/inbox/a",
        "inbox/../sessions/a",
        "inbox/a/../../sessions/b",
        "inbox/./a",
        "inbox//a",
        "inbox/a/",
        "inbox/a\\b",
        "inbox/a\nb",
        "inbox/a\x00",
        "",
        "inbox/" + 1_100 * "a",
    ],
)
def test_only_the_inbox_may_be_named(api: Api, key: str) -> None:
    assert not is_inbox_key(key)
    assert_problem(name(api, {"keys": ["inbox/fine", key]}), 400, "invalid-body")
    if key not in ("inbox/", "inbox/a/"):
        assert_problem(name(api, {"prefix": key}), 400, "invalid-body")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"keys": []},
        {"keys": ["inbox/a"], "prefix": "inbox/"},
        {"keys": "inbox/a"},
        {"prefix": 7},
        {"keys": ["inbox/a"], "priority": "high"},
    ],
)
def test_a_body_that_names_nothing_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert_problem(name(api, body), 400, "invalid-body")
    assert is_inbox_key("inbox/a b/ü.wav")


def test_too_many_keys_are_refused(api: Api, runtime: Runtime) -> None:
    keys = ["inbox/a"] * (runtime.settings.max_batch_items + 1)
    assert_problem(name(api, {"keys": keys}), 413, "too-many-files")


def dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def copies_some(runtime: Runtime, n_files: int) -> Callable[[str, str], None]:
    """Make copying fail after a number of files, as if the worker died."""
    left, real = [n_files], runtime.blobs.copy

    def copy(source: str, to: str) -> None:
        real(source, to)
        left[0] -= 1
        if not left[0]:
            dies()

    return copy


@pytest.mark.parametrize("where", ["copying", "writing", "after the commit"])
def test_a_worker_killed_in_the_middle_makes_each_session_once(
    api: Api,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """Two workers in turn die within the second page; the third finishes."""
    n_files = 2 * PAGE + 7
    fill(runtime, n_files)
    batch = name(api, {"prefix": "inbox/week 7"}).json
    expand(runtime, batch)
    expand(runtime, batch)
    assert count_sessions(runtime) == PAGE
    for _ in range(2):
        with monkeypatch.context() as patched:
            if where == "copying":
                patched.setattr(runtime.blobs, "copy", copies_some(runtime, PAGE // 2))
            elif where == "writing":
                patched.setattr(batch_queries, "take_item", dies)
            else:
                patched.setattr(runtime.publisher, "send", dies)
            with pytest.raises(KeyboardInterrupt):
                expand(runtime, batch)
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE batches SET due_at = now()"))
    for _ in range(6):
        expand(runtime, batch)
    assert count_sessions(runtime) == n_files
    found = items(api, batch)
    assert len({item["session_id"] for item in found}) == n_files
    assert {item["state"] for item in found} == {"queued"}
    stored = {key.split("/")[1] for key in runtime.blobs.keys("sessions/")}
    assert stored == {item["session_id"] for item in found}


def test_a_worker_that_was_thought_dead_writes_nothing_over_its_successor(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it copies a page, others do that page and the next."""
    fill(runtime, 2 * PAGE)
    batch = name(api, {"prefix": "inbox/week 7"}).json
    expand(runtime, batch)
    real, n_copied = runtime.blobs.copy, 0

    def slow(source: str, to: str) -> None:
        nonlocal n_copied
        real(source, to)
        n_copied += 1
        if n_copied < PAGE:
            return
        monkeypatch.setattr(runtime.blobs, "copy", real)
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE batches SET due_at = now() - interval '1 s'"))
        expand(runtime, batch)
        with runtime.store.transaction() as tx:
            claim = batch_queries.take_batch(uuid.UUID(batch["id"]), tx, lease_s=30)
            # Its attempt number equals that of the slow worker.
            assert claim is not None
            assert claim.attempt == 1

    monkeypatch.setattr(runtime.blobs, "copy", slow)
    expand(runtime, batch)
    assert count_sessions(runtime) == PAGE
    assert look(api, batch)["files"] == {"queued": PAGE, "waiting": PAGE}
    assert len(runtime.blobs.keys("sessions/")) == PAGE


def test_a_store_that_fails_for_a_while_delays_and_a_file_that_always_fails_is_refused(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = fill(runtime, 3)
    batch = name(api, {"keys": keys}).json
    real = runtime.blobs.copy

    def copy(source: str, to: str) -> None:
        if source == keys[1]:
            raise PermissionError("not yours")
        real(source, to)

    monkeypatch.setattr(runtime.blobs, "copy", copy)
    for _ in range(runtime.settings.max_attempts):
        assert count_sessions(runtime) == 0
        expand(runtime, batch)
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE batches SET due_at = now()"))
    assert [item["state"] for item in items(api, batch)] == ["queued", "refused", "queued"]
