"""Batches of uploads over a real database and blob store, with a worker in this process."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from actors.execution.runtime import Runtime
from db.queries import batch_queries
from tests.integration.batches.calls import (
    FORM,
    assert_problem,
    count_sessions,
    form,
    items,
    look,
    send,
    work,
)
from tests.support import accounts, recordings
from tests.support.api import Api

pytestmark = pytest.mark.integration


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
    assert "empty" in found[1]["reason"]
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
