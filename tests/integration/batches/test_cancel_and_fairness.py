"""Batches that are cancelled, that share the workers, and the pages of their items."""

from __future__ import annotations

import pytest

from actors.execution.runtime import Runtime
from db.queue import claims, fair_order
from tests.integration.batches.calls import (
    PAGE,
    assert_problem,
    count_sessions,
    expand,
    fill,
    form,
    name,
    send,
    work,
)
from tests.support import accounts, recordings
from tests.support.api import Api

pytestmark = pytest.mark.integration


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
        assert claims.advance(tx, done.work, attempt=done.attempt, to="completed")
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
