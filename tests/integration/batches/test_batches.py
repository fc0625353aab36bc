"""Batches over a real database and blob store, with a worker in this process."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from actors import worker
from actors.batches.expand import batch_process_files
from actors.execution.runtime import Runtime
from actors.messaging.messages import BatchProcessFiles
from actors.recovery import take_stalled
from db.blobs.keys import is_inbox_key, recording_key
from db.queries import batch_queries
from db.queue import fair_order
from db.settings import Settings
from tests.support import accounts, recordings
from tests.support.api import Api

pytestmark = pytest.mark.integration

PAGE = batch_queries.PAGE_ITEMS


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, max_batch_items=2 * PAGE + 20, max_upload_bytes=1_000_000)


@pytest.fixture(scope="module")
def clip() -> bytes:
    return recordings.encode(recordings.demo()[: 3 * recordings.RATE_HZ])


def work(runtime: Runtime) -> None:
    """Handle every nudge twice until no work item is due."""
    for _ in range(30):
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=1_000)
        for nudge in found * 2:
            worker.HANDLERS[type(nudge)](runtime, nudge)
        if not found:
            return
    raise AssertionError("the work never ends")


def form(files: Sequence[tuple[str, bytes]]) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--x--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def send(api: Api, body: bytes, **options: Any) -> Any:
    return api.simulate_post("/v1/batches", body=body, headers=FORM, **options)


def name(api: Api, body: dict[str, Any], **options: Any) -> Any:
    return api.simulate_post("/v1/batches", json=body, **options)


def items(api: Api, batch: Any) -> Any:
    return api.simulate_get(f"/v1/batches/{batch['id']}/items").json["items"]


def look(api: Api, batch: Any) -> Any:
    return api.simulate_get(f"/v1/batches/{batch['id']}").json


def expand(runtime: Runtime, batch: Any) -> None:
    batch_process_files(runtime, BatchProcessFiles(batch_id=uuid.UUID(batch["id"])))


def assert_problem(result: Any, status: int, problem: str) -> str:
    assert result.status_code == status, result.text
    assert result.json["type"] == f"/problems/{problem}"
    return str(result.json["detail"])


def count_sessions(runtime: Runtime) -> int:
    with runtime.store.transaction() as tx:
        return int(tx.execute(text("SELECT count(*) FROM audio_sessions")).scalar_one())


# --- uploads -----------------------------------------------------------------------------------


def test_each_file_gets_its_own_outcome_and_a_bad_one_stops_nobody(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    files = [
        ("a.flac", clip),
        ("empty.wav", b""),
        ("b/../noise.txt", recordings.HEADER),
        ("long.wav", recordings.HEADER + bytes(1_000_000)),
        ("c.flac", clip),
        ("text.wav", b"this is no recording" * 99),
    ]
    posted = send(api, form(files), query_string="priority=low&bands=third_octave")
    assert posted.status_code == 202, posted.text
    assert posted.headers["location"] == f"/v1/batches/{posted.json['id']}"
    assert (posted.json["state"], posted.json["files_total"]) == ("processing", 6)
    assert posted.json["files"] == {"queued": 3, "refused": 3}
    work(runtime)
    batch = look(api, posted.json)
    assert (batch["state"], batch["percent"], batch["problem"]) == ("finished", 100, None)
    assert batch["files"] == {"completed": 2, "failed": 1, "refused": 3}
    assert batch["duration_s"] == pytest.approx(6.0)
    found = items(api, batch)
    assert [item["index"] for item in found] == [0, 1, 2, 3, 4, 5]
    assert [(item["file_name"], item["state"]) for item in found] == [
        ("a.flac", "completed"),
        ("empty.wav", "refused"),
        ("noise.txt", "failed"),
        ("long.wav", "refused"),
        ("c.flac", "completed"),
        ("text.wav", "refused"),
    ]
    assert found[1]["reason"] == "the recording is empty"
    assert "1000000" in found[3]["reason"]
    assert found[2]["reason"]
    assert found[5]["reason"]
    session = api.simulate_get(f"/v1/sessions/{found[0]['session_id']}").json
    assert (session["priority"], session["bands"]) == ("low", "third_octave")
    assert session["batch_id"] == batch["id"]
    # The same clip twice gives its detections twice.
    summed = Counter({k: v["events"] for k, v in batch["noise_types"].items()})
    once = Counter({k: v["events"] for k, v in session["summary"]["noise_types"].items()})
    assert summed == once + once
    assert found[0]["events"] == session["summary"]["events"]
    stored = {key.split("/")[1] for key in runtime.blobs.keys("sessions/")}
    assert stored == {item["session_id"] for item in found if item["session_id"]}


def test_a_form_that_breaks_off_keeps_what_came_before(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    chosen = uuid.uuid4()
    body = form([("a.flac", clip), ("b.flac", clip), ("c.flac", clip)])[: -len(clip) // 2]
    broken = send(api, body, query_string=f"batch_id={chosen}")
    assert broken.status_code == 400
    assert broken.headers["location"] == f"/v1/batches/{chosen}"
    work(runtime)
    batch = api.simulate_get(f"/v1/batches/{chosen}").json
    assert (batch["state"], batch["files"]) == ("finished", {"completed": 2})
    assert batch["problem"]["code"] == "not-all-taken"
    assert len([key for key in runtime.blobs.keys("sessions/") if key.endswith("recording")]) == 2


def test_a_batch_that_is_too_long_keeps_what_came_before(api: Api, runtime: Runtime) -> None:
    most = runtime.settings.max_batch_items
    refused = send(api, form([("a", recordings.HEADER)] * (most + 1)))
    assert_problem(refused, 413, "too-many-files")
    batch = api.simulate_get(refused.headers["location"]).json
    assert batch["files"] == {"queued": most}
    assert batch["problem"]["code"] == "not-all-taken"


@pytest.mark.parametrize("fault", ["too long", "broken off"])
def test_a_batch_with_an_id_is_not_answered_with_that_of_a_refused_attempt(
    api: Api, runtime: Runtime, clip: bytes, fault: str
) -> None:
    good = form([("a.flac", clip), ("b.flac", clip)])
    too_long = form([("a", recordings.HEADER)] * (runtime.settings.max_batch_items + 1))
    bad = too_long if fault == "too long" else good[: -len(clip) // 2]
    headers = FORM | {"Idempotency-Key": "a"}
    refused = api.simulate_post("/v1/batches", body=bad, headers=headers)
    assert refused.status_code == (413 if fault == "too long" else 400)
    chosen = str(uuid.uuid4())
    posted = api.simulate_post(
        "/v1/batches", body=good, headers=headers, query_string=f"batch_id={chosen}"
    )
    assert (posted.status_code, posted.json["id"]) == (202, chosen)
    assert [each["file_name"] for each in items(api, posted.json)] == ["a.flac", "b.flac"]
    # The batch of the refused attempt keeps what had arrived.
    assert api.simulate_get(refused.headers["location"]).json["files_total"] > 0


def test_a_server_that_died_while_it_received_leaves_a_batch_that_is_closed(
    api: Api, runtime: Runtime
) -> None:
    with runtime.store.transaction() as tx:
        batch = batch_queries.add_batch(
            tx, id=uuid.uuid4(), user_id=accounts.TEAM, state="receiving", options={}
        )
    assert batch is not None
    work(runtime)
    shown = look(api, {"id": batch.id})
    assert (shown["state"], shown["problem"]["code"]) == ("finished", "upload-broken-off")


def test_what_is_no_batch_is_refused_and_nothing_kept(api: Api, runtime: Runtime) -> None:
    assert_problem(send(api, b"--x--\r\n"), 400, "empty-upload")
    raw = api.simulate_post("/v1/batches", body=b"x", headers={"Content-Type": "audio/wav"})
    assert_problem(raw, 415, "unsupported-upload")
    for query in ("priority=urgent", "calibration_db=loud"):
        assert_problem(
            send(api, form([("a", recordings.HEADER)]), query_string=query),
            400,
            "invalid-parameter",
        )
    assert send(api, form([("a", recordings.HEADER)]), query_string="batch_id=1").status_code == 400
    first = send(api, form([("a", recordings.HEADER)]))
    again = send(api, form([("b", recordings.HEADER)]), query_string=f"batch_id={first.json['id']}")
    assert_problem(again, 409, "batch-exists")
    nowhere = f"/v1/batches/{uuid.uuid4()}"
    assert_problem(api.simulate_get(nowhere), 404, "batch-not-found")
    assert_problem(api.simulate_get(f"{nowhere}/items"), 404, "batch-not-found")
    assert_problem(api.simulate_post(f"{nowhere}/cancel"), 404, "batch-not-found")
    assert count_sessions(runtime) == 1


# --- the inbox ---------------------------------------------------------------------------------


def fill(
    runtime: Runtime, n_files: int, content: bytes = b"x", folder: str = "week 7"
) -> list[str]:
    keys = [f"inbox/{folder}/{index:04d}.flac" for index in range(n_files)]
    for key in keys:
        runtime.blobs.put(key, content)
    return keys


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
    assert found[1]["reason"] == "there is no such file below inbox/"
    assert found[2]["reason"] == "the recording is empty"
    # The operator's file stays unchanged, and the session no longer needs it.
    assert runtime.blobs.get(keys[0]) == clip
    runtime.blobs.put(keys[0], b"another")
    assert runtime.blobs.get(recording_key(uuid.UUID(found[3]["session_id"]))) == clip


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


# --- cancelling and fairness -------------------------------------------------------------------


def test_cancel_ends_all_sessions_and_stops_the_expansion(
    api: Api, runtime: Runtime, clip: bytes
) -> None:
    fill(runtime, PAGE + 5, clip)
    batch = name(api, {"prefix": "inbox/week 7"}).json
    expand(runtime, batch)
    expand(runtime, batch)
    with runtime.store.transaction() as tx:
        # One session has ended already, one is being worked on.
        done = fair_order.next_session(tx, state="queued", lease_s=30)
        assert done is not None
        tx.execute(
            text("UPDATE audio_sessions SET state = 'completed' WHERE id = :id"),
            {"id": done.work.session_id},
        )
        assert fair_order.next_session(tx, state="queued", lease_s=30)
    path = f"/v1/batches/{batch['id']}/cancel"
    for _ in range(2):
        cancelled = api.simulate_post(path)
        assert cancelled.status_code == 200
        assert (cancelled.json["state"], cancelled.json["percent"]) == ("cancelled", 100)
        assert cancelled.json["files"] == {"completed": 1, "cancelled": PAGE - 1, "not_taken": 5}
    expand(runtime, batch)
    assert count_sessions(runtime) == PAGE
    with runtime.store.transaction() as tx:
        assert fair_order.next_session(tx, state="queued", lease_s=30) is None


def test_cancel_while_a_page_is_copied_leaves_no_copies(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(runtime, 5)
    batch = name(api, {"prefix": "inbox/week 7"}).json
    expand(runtime, batch)
    real, copied = runtime.blobs.copy, list[str]()

    def slow(source: str, to: str) -> None:
        real(source, to)
        copied.append(to)
        if len(copied) == 5:
            assert api.simulate_post(f"/v1/batches/{batch['id']}/cancel").status_code == 200
            for key in copied:
                runtime.blobs.put(key, b"copied a moment later")

    monkeypatch.setattr(runtime.blobs, "copy", slow)
    expand(runtime, batch)
    assert len(copied) == 5
    assert runtime.blobs.keys("sessions/") == []
    assert count_sessions(runtime) == 0


def test_a_finished_batch_cannot_be_cancelled(api: Api, runtime: Runtime) -> None:
    batch = send(api, form([("a", recordings.HEADER)])).json
    work(runtime)
    refused = api.simulate_post(f"/v1/batches/{batch['id']}/cancel")
    assert_problem(refused, 409, "already-finished")


def test_a_batch_keeps_no_other_caller_waiting(api: Api, runtime: Runtime) -> None:
    send(api, form([("a", recordings.HEADER)] * 5))
    single = (
        accounts.client(api.app, accounts.ADMIN_KEY)
        .simulate_post(
            "/v1/sessions", body=recordings.HEADER, headers={"Content-Type": "audio/wav"}
        )
        .json
    )
    with runtime.store.transaction() as tx:
        found = [fair_order.next_session(tx, state="queued", lease_s=30) for _ in range(2)]
    assert single["id"] in [str(claim.work.session_id) for claim in found if claim]


def test_items_are_paged(api: Api) -> None:
    batch = send(api, form([(f"{index}", recordings.HEADER) for index in range(5)])).json
    seen, cursor = [], ""
    for wanted in (2, 2, 1):
        page = api.simulate_get(
            f"/v1/batches/{batch['id']}/items",
            params={"limit": 2} | ({"cursor": cursor} if cursor else {}),
        ).json
        assert len(page["items"]) == wanted
        seen += [item["file_name"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == ["0", "1", "2", "3", "4"]
