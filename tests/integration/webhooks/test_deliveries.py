"""Every end of a session is delivered to the webhooks that are to know of it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook as Library
from standardwebhooks import WebhookVerificationError

from actors.execution.runtime import Runtime
from actors.messaging.messages import BatchProcessFiles, ProcessAudioFile
from db.queries import delivery_queries, session_queries, webhook_queries
from db.queries.batch_queries import add_batch, add_keys, cancel_batch, take_item
from db.queue import claims
from db.queue.claims import SessionWork
from tests.integration.webhooks.receivers import (
    PATH,
    assert_problem,
    cancelled,
    deliveries,
    register,
    tell,
    told,
)
from tests.support import accounts, labelled, pipeline, recordings
from tests.support.api import Api, App
from tests.support.cluster import eventually
from tests.support.web import Web

pytestmark = pytest.mark.integration


def test_a_completed_session_is_told_and_the_published_library_takes_the_signature(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    content = recordings.encode(labelled.sound("mains_hum", seconds=4), rate_hz=16_000)
    session_id = pipeline.add(runtime, content, user_metadata={"site": "bridge"})
    row = pipeline.run_to_the_end(runtime, session_id)
    assert row.state == "completed"
    tell(runtime)
    assert web.asked == [f"POST 127.0.0.1:{web.port}{PATH}"]
    event = told(web, hook["secret"])
    shown = api.simulate_get(f"/v1/sessions/{row.id}").json
    assert event["type"] == "session.completed"
    assert event["data"] == {
        name: shown[name]
        for name in (
            "id",
            "state",
            "file_name",
            "duration_s",
            "finished_at",
            "metadata",
            "problem",
        )
    } | {"url": f"/v1/sessions/{row.id}", "summary": row.summary}
    assert event["data"]["metadata"] == {"site": "bridge"}
    assert event["data"]["summary"]["events"] == shown["summary"]["events"]
    assert web.heads[0]["Content-Type"] == "application/json"
    [delivery] = deliveries(api, hook)
    assert delivery["id"] == web.heads[0]["webhook-id"]
    assert (delivery["state"], delivery["tries"], delivery["next_at"]) == ("delivered", 1, None)
    [tried] = delivery["log"]
    assert (tried["status"], tried["error"]) == (200, None)
    with pytest.raises(WebhookVerificationError):
        Library("whsec_c29tZWJvZHkgZWxzZQ==").verify(web.bodies[0], web.heads[0])
    with pytest.raises(WebhookVerificationError):
        Library(hook["secret"]).verify(web.bodies[0] + b" ", web.heads[0])


def ended_by_an_actor(state: str) -> Callable[[Runtime], uuid.UUID]:
    def end(runtime: Runtime) -> uuid.UUID:
        session_id = pipeline.add(runtime, b"x")
        work = SessionWork(session_id=session_id, state="queued")
        with runtime.store.transaction() as tx:
            claim = claims.this(work, tx, lease_s=30)
            assert claim is not None
            assert claims.advance(tx, work, attempt=claim.attempt, to=state)
        return session_id

    return end


def failed_at_once(runtime: Runtime) -> uuid.UUID:
    session_id = pipeline.add(runtime, b"this is no recording")
    pipeline.handle(runtime, ProcessAudioFile(session_id=session_id))
    return session_id


def given_up(runtime: Runtime) -> uuid.UUID:
    session_id = pipeline.add(runtime, b"x")
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET attempt = 99"))
    pipeline.handle(runtime, ProcessAudioFile(session_id=session_id))
    return session_id


def cancelled_by_a_batch(runtime: Runtime) -> uuid.UUID:
    with runtime.store.transaction() as tx:
        batch = add_batch(
            tx,
            id=uuid.uuid4(),
            user_id=accounts.TEAM,
            state="taken",
            options={},
            items_total=1,
        )
        assert batch is not None
        add_keys(tx, batch.id, [("inbox/a", None)])
        session_id = take_item(tx, batch, 0, file_name="a", size_bytes=1, key="k")
        assert cancel_batch(tx, batch)
    return session_id


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (ended_by_an_actor("completed"), "completed"),
        (ended_by_an_actor("partial"), "partial"),
        (failed_at_once, "failed"),
        (given_up, "failed"),
        (cancelled, "cancelled"),
        (cancelled_by_a_batch, "cancelled"),
    ],
    ids=["completed", "partial", "failed", "given-up", "cancelled", "batch-cancelled"],
)
def test_however_a_session_ends_it_is_written_down_to_be_told(
    runtime: Runtime, web: Web, hook: Any, end: Callable[[Runtime], uuid.UUID], state: str
) -> None:
    session_id = end(runtime)
    assert pipeline.session(runtime, session_id).state == state
    tell(runtime)
    event = told(web, hook["secret"])
    assert (event["type"], event["data"]["id"]) == (f"session.{state}", str(session_id))
    assert len(web.asked) == 1


def test_an_end_that_is_not_committed_is_told_to_nobody(
    api: Api, runtime: Runtime, hook: Any
) -> None:
    session_id = pipeline.add(runtime, b"x")
    webhook_id = uuid.UUID(hook["webhook"]["id"])
    with suppress(RuntimeError), runtime.store.transaction() as tx:
        assert session_queries.cancel_session(tx, session_id)
        [row] = delivery_queries.deliveries(
            tx, webhook_id, order=delivery_queries.DELIVERIES, after=None, limit=9
        ).rows
        assert row[0].session_id == session_id
        raise RuntimeError
    assert deliveries(api, hook) == []


def test_a_session_is_told_to_webhooks_of_its_user_that_hear_of_it(
    api: Api, runtime: Runtime, web: Web
) -> None:
    of_all, of_named = register(api, web), register(api, web, all_sessions=False)
    plain = cancelled(runtime)
    named = cancelled(runtime, webhook_id=uuid.UUID(of_named["webhook"]["id"]))
    # Naming it does not help another user's session, nor one without an owner.
    for user_id in (accounts.ADMIN, None):
        cancelled(runtime, user_id=user_id, webhook_id=uuid.UUID(of_named["webhook"]["id"]))
    assert [each["session_id"] for each in deliveries(api, of_all)] == [str(named), str(plain)]
    assert [each["session_id"] for each in deliveries(api, of_named)] == [str(named)]


def test_a_recording_names_a_webhook_of_its_senders(
    api: Api, app: App, runtime: Runtime, web: Web, hook: Any
) -> None:
    quiet = register(api, web, all_sessions=False)
    webhook_id = quiet["webhook"]["id"]

    def post(api: Api, webhook_id: Any) -> Any:
        return api.simulate_post(
            "/v1/sessions",
            body=recordings.HEADER,
            params={"webhook": str(webhook_id)},
            headers={"Content-Type": "audio/wav"},
        )

    named = post(api, webhook_id)
    assert (named.status_code, named.json["webhook_id"]) == (202, webhook_id)
    assert api.simulate_post(f"/v1/sessions/{named.json['id']}/cancel").status_code == 200
    runtime.blobs.put("inbox/a.wav", recordings.HEADER)
    batch = api.simulate_post(
        "/v1/batches", json={"keys": ["inbox/a.wav"]}, params={"webhook": webhook_id}
    )
    assert batch.status_code == 202, batch.text
    pipeline.handle(runtime, BatchProcessFiles(batch_id=uuid.UUID(batch.json["id"])))
    assert api.simulate_post(f"/v1/batches/{batch.json['id']}/cancel").status_code == 200
    assert len(deliveries(api, quiet)) == len(deliveries(api, hook)) == 2
    # Another user's webhook would never be delivered to, even for an administrator's session.
    admin = accounts.client(app, accounts.ADMIN_KEY)
    for refused in (post(api, uuid.uuid4()), post(admin, webhook_id)):
        assert_problem(refused, 404, "webhook-not-found")
    assert_problem(post(api, "x"), 400, "invalid-parameter")


def test_a_webhook_that_is_removed_while_a_session_ends_does_not_hinder_it(
    api: Api, runtime: Runtime, hook: Any
) -> None:
    session_id = pipeline.add(runtime, b"x")
    ended = threading.Event()

    def end() -> None:
        with runtime.store.transaction() as tx:
            assert session_queries.cancel_session(tx, session_id)
        ended.set()

    def waits() -> bool:
        with runtime.store.transaction() as tx:
            return bool(
                tx.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database()"
                    )
                ).scalar_one()
            )

    with runtime.store.transaction() as tx:
        webhook_id = uuid.UUID(hook["webhook"]["id"])
        assert webhook_queries.remove_webhook(tx, webhook_id, owner=None)
        thread = threading.Thread(target=end)
        thread.start()
        eventually(waits, what="the session's end, which waits for the webhook's")
    thread.join()
    assert ended.is_set()
    assert pipeline.session(runtime, session_id).state == "cancelled"


def test_a_webhook_that_is_changed_does_not_let_a_session_wait(
    runtime: Runtime, hook: Any, api: Api
) -> None:
    with runtime.store.transaction() as tx:
        webhook_id = uuid.UUID(hook["webhook"]["id"])
        assert webhook_queries.lock_webhook(tx, webhook_id) is not None
        webhook_queries.change_webhook(tx, webhook_id, {"all_sessions": True})
        cancelled(runtime)
    assert len(deliveries(api, hook)) == 1
