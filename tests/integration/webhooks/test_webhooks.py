"""Webhooks, from the end of a session to a receiver that verifies signatures."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import Webhook as Library
from standardwebhooks import WebhookVerificationError

from actors.execution.runtime import Runtime
from actors.maintenance import cleanup
from actors.messaging import broker
from actors.messaging.messages import BatchProcessFiles, CleanUp, DeliverWebhook, ProcessAudioFile
from actors.outbound.pinning import Limits
from actors.recovery import nudge_for
from actors.webhooks import deliver as notify
from db.queries import idempotency_queries, queue_queries, session_queries, webhook_queries
from db.queries.batch_queries import add_batch, cancel_batch, take_item
from db.queue import claims
from db.queue.claims import Work
from db.settings import Settings
from services.http import idempotency
from tests.support import accounts, labelled, pipeline, recordings
from tests.support.api import Api, App
from tests.support.cluster import eventually
from tests.support.web import LOOPBACK, Request, Web, serving

pytestmark = pytest.mark.integration

PATH = "/hook"


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, private_networks=LOOPBACK)


@pytest.fixture
def web() -> Iterator[Web]:
    """A receiver that accepts everything."""
    with serving() as web:
        web.pages[PATH] = lambda request: request.answer()
        yield web


def register(api: Api, web: Web, **asked: Any) -> Any:
    """Register the receiver; return the webhook and its secret."""
    made = api.simulate_post("/v1/webhooks", json={"url": web.url(PATH)} | asked)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/v1/webhooks/{made.json['webhook']['id']}"
    return made.json


@pytest.fixture
def hook(api: Api, web: Web) -> Any:
    return register(api, web)


def path_of(hook: Any, *more: str) -> str:
    return "/".join(["/v1/webhooks", hook["webhook"]["id"], *more])


def cancelled(runtime: Runtime, **values: Any) -> uuid.UUID:
    """Add a cancelled session."""
    session_id = uuid.uuid4()
    with runtime.store.transaction() as db:
        session_queries.add_session(
            db,
            id=session_id,
            file_name="a.wav",
            size_bytes=1,
            recording_key="k",
            **{"user_id": accounts.TEAM} | values,
        )
        assert session_queries.cancel_session(db, session_id)
    return session_id


def tell(runtime: Runtime) -> None:
    """Deliver everything that is due."""
    for _ in range(50):
        with runtime.store.transaction() as db:
            found = webhook_queries.take_stalled_webhooks(db, quiet_s=0, limit=100)
        for work in found:
            pipeline.handle(runtime, nudge_for(work))
        if not found:
            return
    raise AssertionError("there is no end to what is told")


def pass_time(runtime: Runtime) -> None:
    """Let every pause be over."""
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE webhooks SET due_at = now()"))
        db.execute(text("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'pending'"))


def deliveries(api: Api, hook: Any) -> Any:
    """Return the deliveries as the API shows them, newest first."""
    shown = api.simulate_get(path_of(hook, "deliveries"))
    assert shown.status_code == 200, shown.text
    return shown.json["items"]


def told(web: Web, secret: str, index: int = -1) -> Any:
    """Return a received payload, after the published library has verified its signature."""
    return Library(secret).verify(web.bodies[index], web.heads[index])


def ids(web: Web) -> list[str]:
    return [head["webhook-id"] for head in web.heads]


def answers(web: Web, *statuses: int) -> None:
    """Let the receiver answer with these statuses in turn, then repeat the last."""
    left = list(statuses)
    web.pages[PATH] = lambda request: request.answer(
        status=left.pop(0) if len(left) > 1 else left[0]
    )


def assert_problem(result: Any, status: int, name: str) -> str:
    assert result.status_code == status, result.text
    assert result.json["type"] == f"/problems/{name}"
    return str(result.json["detail"])


# --- deliveries --------------------------------------------------------------------------------


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
        work = Work(session_id=session_id, state="queued")
        with runtime.store.transaction() as db:
            claim = claims.this(work, db, lease_s=30)
            assert claim is not None
            assert claims.advance(db, work, attempt=claim.attempt, to=state)
        return session_id

    return end


def failed_at_once(runtime: Runtime) -> uuid.UUID:
    session_id = pipeline.add(runtime, b"this is no recording")
    pipeline.handle(runtime, ProcessAudioFile(session_id=session_id))
    return session_id


def given_up(runtime: Runtime) -> uuid.UUID:
    session_id = pipeline.add(runtime, b"x")
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE audio_sessions SET attempt = 99"))
    pipeline.handle(runtime, ProcessAudioFile(session_id=session_id))
    return session_id


def cancelled_by_a_batch(runtime: Runtime) -> uuid.UUID:
    with runtime.store.transaction() as db:
        batch = add_batch(
            db,
            id=uuid.uuid4(),
            user_id=accounts.TEAM,
            state="taken",
            options={},
            keys=["inbox/a"],
        )
        assert batch is not None
        session_id = take_item(db, batch, 0, file_name="a", size_bytes=1, key="k")
        assert cancel_batch(db, batch)
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
    with suppress(RuntimeError), runtime.store.transaction() as db:
        assert session_queries.cancel_session(db, session_id)
        [row] = webhook_queries.deliveries(db, webhook_id, after=None, limit=9).rows
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
        with runtime.store.transaction() as db:
            assert session_queries.cancel_session(db, session_id)
        ended.set()

    def waits() -> bool:
        with runtime.store.transaction() as db:
            return bool(
                db.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database()"
                    )
                ).scalar_one()
            )

    with runtime.store.transaction() as db:
        webhook_id = uuid.UUID(hook["webhook"]["id"])
        assert webhook_queries.remove_webhook(db, webhook_id, owner=None)
        thread = threading.Thread(target=end)
        thread.start()
        eventually(waits, what="the session's end, which waits for the webhook's")
    thread.join()
    assert ended.is_set()
    assert pipeline.session(runtime, session_id).state == "cancelled"


def test_a_webhook_that_is_changed_does_not_let_a_session_wait(
    runtime: Runtime, hook: Any, api: Api
) -> None:
    with runtime.store.transaction() as db:
        webhook_id = uuid.UUID(hook["webhook"]["id"])
        assert webhook_queries.lock_webhook(db, webhook_id) is not None
        webhook_queries.change_webhook(db, webhook_id, {"all_sessions": True})
        cancelled(runtime)
    assert len(deliveries(api, hook)) == 1


# --- tries -------------------------------------------------------------------------------------


def test_a_delivery_that_fails_is_tried_again_later_under_the_same_id(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    answers(web, 500, 302, 200)
    cancelled(runtime)
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("pending", 1)
    assert delivery["next_at"] > delivery["created_at"]
    assert api.simulate_get(path_of(hook)).json["failures"] == 1
    tell(runtime)
    assert len(web.asked) == 1
    for _ in range(2):
        pass_time(runtime)
        tell(runtime)
    assert len(set(ids(web))) == 1
    assert len(set(web.bodies)) == 1
    assert told(web, hook["secret"])["type"] == "session.cancelled"
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("delivered", 3)
    assert [(each["status"], each["error"]) for each in delivery["log"]] == [
        (500, "the server answered 500"),
        (302, "the server answered 302"),
        (200, None),
    ]
    shown = api.simulate_get(path_of(hook)).json
    assert (shown["failures"], shown["failing_since"], shown["state"]) == (0, None, "active")


def test_tries_end_after_two_days(api: Api, runtime: Runtime, web: Web, hook: Any) -> None:
    answers(web, 503)
    cancelled(runtime)
    waited_s = 0.0
    for _ in range(20):
        tell(runtime)
        with runtime.store.transaction() as db:
            waited_s += float(
                db.execute(
                    text(
                        "SELECT extract(epoch FROM next_at - now()) FROM webhook_deliveries"
                        " WHERE state = 'pending'"
                    )
                ).scalar_one_or_none()
                or 0
            )
        pass_time(runtime)
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("failed", len(notify.PAUSES_S) + 1)
    assert delivery["finished_at"]
    assert 48 < waited_s / 3_600 < 60
    again = api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay"))
    assert again.status_code == 202
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("pending", len(notify.PAUSES_S) + 2)
    # Nine failures within a moment are not enough to disable it.
    assert api.simulate_get(path_of(hook)).json["state"] == "active"


def test_a_receiver_that_does_not_answer_in_time_is_left_and_rests(
    api: Api,
    runtime: Runtime,
    web: Web,
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "LIMITS", Limits(total_s=1.2, most_bytes=0))
    web.pages[PATH] = lambda _request: web.ends.wait()
    for _ in range(3):
        cancelled(runtime)
    tell(runtime)
    # The other deliveries wait, too: they would take as long.
    assert len(web.asked) == 1
    told_of = [each for each in deliveries(api, hook) if each["tries"]]
    assert [each["log"][0]["status"] for each in told_of] == [None]
    assert "it took longer than 1.2 s" in told_of[0]["log"][0]["error"]
    with runtime.store.transaction() as db:
        due_at = db.execute(text("SELECT due_at FROM webhooks")).scalar_one()
        backlog = queue_queries.backlogs(db)["webhook"]
    rests_s = (due_at - datetime.fromisoformat(told_of[0]["log"][0]["at"])).total_seconds()
    assert rests_s > (1 + notify.RESTS) * 1.2
    # The receiver causes the wait, so it is not a backlog to alert on.
    assert (backlog.held, backlog.oldest_s) == (0, None)


def test_one_receiver_is_asked_one_thing_at_a_time_and_keeps_no_other_waiting(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def wait(request: Request) -> None:
        asked.set()
        go_on.wait(30)
        request.answer()

    web.pages["/slow"] = wait
    slow = register(api, web, url=web.url("/slow"))
    for _ in range(2):
        cancelled(runtime)
    nudge = DeliverWebhook(webhook_id=uuid.UUID(slow["webhook"]["id"]))
    thread = threading.Thread(target=pipeline.handle, args=(runtime, nudge))
    thread.start()
    assert asked.wait(60)
    with runtime.store.transaction() as db:
        assert queue_queries.backlogs(db)["webhook"].held == 1
    pipeline.handle(runtime, nudge)
    tell(runtime)
    states = [each["state"] for each in deliveries(api, hook)]
    assert states == ["delivered", "delivered"]
    assert [line.rpartition("/")[2] for line in web.asked].count("slow") == 1
    go_on.set()
    thread.join()
    pass_time(runtime)
    tell(runtime)
    assert [each["state"] for each in deliveries(api, slow)] == ["delivered", "delivered"]


class Killed(BaseException):
    """Stands for a worker that is killed; nothing catches it."""


def test_a_worker_killed_between_the_post_and_the_commit_has_the_same_id_come_twice(
    api: Api,
    runtime: Runtime,
    web: Web,
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die(*_arguments: object, **_more: object) -> None:
        raise Killed

    cancelled(runtime)
    with monkeypatch.context() as patch:
        patch.setattr(webhook_queries, "end_try", die)
        with pytest.raises(Killed):
            tell(runtime)
    assert len(web.asked) == 1
    # The lease has to end first.
    tell(runtime)
    assert len(web.asked) == 1
    pass_time(runtime)
    tell(runtime)
    assert len(web.asked) == 2
    assert len(set(ids(web))) == 1
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("delivered", 1)


def test_a_delivery_that_kills_its_workers_is_given_up_and_keeps_nothing_from_being_told(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    cancelled(runtime)
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE webhooks SET attempt = 99"))
    tell(runtime)
    assert web.asked == []
    [delivery] = deliveries(api, hook)
    assert delivery["state"] == "failed"
    assert "given up" in delivery["log"][0]["error"]
    cancelled(runtime)
    tell(runtime)
    assert len(web.asked) == 1


def test_a_try_that_is_behind_by_now_writes_nothing(api: Api, runtime: Runtime, hook: Any) -> None:
    """The worker was presumed dead, and its delivery has since been tried and replayed."""
    cancelled(runtime)
    webhook_id = uuid.UUID(hook["webhook"]["id"])
    with runtime.store.transaction() as db:
        claim = webhook_queries.take_delivery(webhook_id, db, lease_s=30)
        assert claim is not None
    pass_time(runtime)
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (
        api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay")).status_code == 202
    )
    with runtime.store.transaction() as db:
        again = webhook_queries.take_delivery(webhook_id, db, lease_s=30)
        assert again is not None
        assert (again.attempt, again.work.delivery_id) == (claim.attempt, claim.work.delivery_id)
        late: dict[str, Any] = {"webhook": {}, "rest_s": 0.0, "delivery": {"state": "failed"}}
        assert not webhook_queries.end_try(db, claim.work, attempt=claim.attempt, **late)


def test_the_log_of_a_delivery_is_bounded(
    api: Api,
    runtime: Runtime,
    web: Web,
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notify, "TRIES_KEPT", 2)
    answers(web, 500, 501, 502, 503)
    cancelled(runtime)
    for _ in range(4):
        tell(runtime)
        pass_time(runtime)
    [delivery] = deliveries(api, hook)
    assert delivery["tries"] == 4
    assert [each["status"] for each in delivery["log"]] == [502, 503]


# --- disabling ---------------------------------------------------------------------------------


def test_a_receiver_that_is_gone_is_told_nothing_more_until_it_is_enabled(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    answers(web, 410, 200)
    first = cancelled(runtime)
    second = cancelled(runtime)
    tell(runtime)
    shown = api.simulate_get(path_of(hook)).json
    assert (shown["state"], shown["disabled_reason"]) == (
        "disabled",
        "the receiver answered 410 Gone",
    )
    cancelled(runtime)
    pass_time(runtime)
    tell(runtime)
    assert len(web.asked) == 1
    states = {each["session_id"]: each["state"] for each in deliveries(api, hook)}
    assert states == {str(first): "failed", str(second): "pending"}
    for more in (["test"], ["deliveries", deliveries(api, hook)[0]["id"], "replay"]):
        assert "410 Gone" in assert_problem(
            api.simulate_post(path_of(hook, *more)), 409, "webhook-disabled"
        )
    enabled = api.simulate_patch(path_of(hook), json={"enabled": True}).json
    assert (enabled["state"], enabled["disabled_reason"], enabled["failures"]) == (
        "active",
        None,
        0,
    )
    tell(runtime)
    assert told(web, hook["secret"])["data"]["id"] == str(second)


def test_failures_in_a_row_over_two_days_disable_it_and_tell_why(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    answers(web, 500, 500, 200)
    cancelled(runtime)
    for n_failures, days, state in ((7, 3, "active"), (8, 3, "disabled")):
        with runtime.store.transaction() as db:
            db.execute(
                text(
                    "UPDATE webhooks SET failures = :n,"
                    " failing_since = now() - make_interval(days => :days)"
                ),
                {"n": n_failures, "days": days},
            )
        tell(runtime)
        pass_time(runtime)
        assert api.simulate_get(path_of(hook)).json["state"] == state
    reason = api.simulate_get(path_of(hook)).json["disabled_reason"]
    assert reason.startswith("9 tries in a row failed since 20")
    assert reason.endswith("the last one: the server answered 500")


def test_a_disabled_users_deliveries_wait_and_nothing_new_is_written(
    api: Api, app: App, runtime: Runtime, web: Web, hook: Any
) -> None:
    cancelled(runtime)
    admin = accounts.client(app, accounts.ADMIN_KEY)
    assert admin.simulate_post(f"/v1/users/{accounts.TEAM}/disable").status_code == 200
    cancelled(runtime)
    tell(runtime)
    pipeline.handle(runtime, DeliverWebhook(webhook_id=uuid.UUID(hook["webhook"]["id"])))
    assert web.asked == []
    assert len(deliveries(admin, hook)) == 1
    assert admin.simulate_post(f"/v1/users/{accounts.TEAM}/enable").status_code == 200
    tell(runtime)
    assert len(web.asked) == 1


def test_a_removed_webhook_is_told_nothing_and_leaves_nothing(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    cancelled(runtime)
    assert api.simulate_delete(path_of(hook)).status_code == 204
    tell(runtime)
    pipeline.handle(runtime, DeliverWebhook(webhook_id=uuid.UUID(hook["webhook"]["id"])))
    assert web.asked == []
    with runtime.store.transaction() as db:
        assert db.execute(text("SELECT count(*) FROM webhook_deliveries")).scalar_one() == 0
    assert_problem(api.simulate_delete(path_of(hook)), 404, "webhook-not-found")


def test_a_webhook_that_is_removed_during_a_try_is_no_failure(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    def remove(request: Request) -> None:
        assert api.simulate_delete(path_of(hook)).status_code == 204
        request.answer()

    web.pages[PATH] = remove
    cancelled(runtime)
    tell(runtime)
    with runtime.store.transaction() as db:
        results = db.execute(text("SELECT result FROM processing_metrics")).scalars().all()
    assert results == ["superseded"]


# --- replays, pings, secrets -------------------------------------------------------------------


def test_a_replay_comes_under_the_same_id_with_tries_of_its_own(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    cancelled(runtime)
    tell(runtime)
    [delivery] = deliveries(api, hook)
    answers(web, 500, 200)
    again = api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay"))
    assert again.status_code == 202
    assert (again.json["state"], again.json["finished_at"]) == ("pending", None)
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"]) == ("pending", 2)
    # A replay does not wait for the next scheduled try.
    api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay"))
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (delivery["state"], delivery["tries"], len(delivery["log"])) == ("delivered", 3, 3)
    assert len(set(ids(web))) == 1
    other = register(api, web)
    for more in ((hook, str(uuid.uuid4())), (other, delivery["id"])):
        path = path_of(more[0], "deliveries", more[1], "replay")
        assert_problem(api.simulate_post(path), 404, "delivery-not-found")


def test_a_ping_is_tried_once(api: Api, runtime: Runtime, web: Web, hook: Any) -> None:
    answers(web, 500, 200)
    for state in ("failed", "delivered"):
        asked = api.simulate_post(path_of(hook, "test"))
        assert (asked.status_code, asked.json["type"], asked.json["state"]) == (
            202,
            "ping",
            "pending",
        )
        tell(runtime)
        assert deliveries(api, hook)[0]["state"] == state
        event = told(web, hook["secret"])
        assert (event["type"], event["data"]) == ("ping", {})


def test_a_ping_that_was_made_and_not_told_is_not_made_again(
    api: Api,
    runtime: Runtime,
    web: Web,
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask() -> Any:
        return api.simulate_post(path_of(hook, "test"), headers={"Idempotency-Key": '"a"'})

    def die(*_arguments: object, **_more: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(idempotency_queries, "answer_request", die)
        patch.setattr(idempotency._Leases, "hold", lambda *_: None)
        with pytest.raises(Killed):
            ask()
    [made] = deliveries(api, hook)
    again = eventually(lambda: got if (got := ask()).status_code == 202 else None)
    assert again.json["id"] == made["id"]
    tell(runtime)
    assert ids(web) == [made["id"]]


def test_after_a_rotation_both_secrets_sign_for_a_while(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    rotated = api.simulate_post(path_of(hook, "rotate")).json
    assert rotated["secret"] != hook["secret"]
    assert rotated["webhook"]["old_secret_until"] is not None
    cancelled(runtime)
    tell(runtime)
    for secret in (hook["secret"], rotated["secret"]):
        assert told(web, secret)["type"] == "session.cancelled"
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE webhooks SET old_secret_until = now()"))
    cancelled(runtime)
    tell(runtime)
    assert told(web, rotated["secret"])
    with pytest.raises(WebhookVerificationError):
        told(web, hook["secret"])


def test_a_secret_is_shown_once_and_never_logged(
    api: Api,
    runtime: Runtime,
    hook: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rotated = api.simulate_post(path_of(hook, "rotate")).json
    cancelled(runtime)
    tell(runtime)
    shown = [
        api.simulate_get("/v1/webhooks"),
        api.simulate_get(path_of(hook)),
        api.simulate_get(path_of(hook, "deliveries")),
        api.simulate_patch(path_of(hook), json={}),
    ]
    logged = capsys.readouterr()
    assert "actor_run" in logged.out + logged.err
    for secret in (hook["secret"], rotated["secret"]):
        assert secret.startswith("whsec_")
        assert all(secret not in each.text for each in shown)
        assert secret not in logged.out + logged.err


# --- the API -----------------------------------------------------------------------------------


def test_a_webhook_is_changed_in_what_is_named_alone(api: Api, web: Web, hook: Any) -> None:
    assert api.simulate_get("/v1/webhooks").json["items"] == [hook["webhook"]]
    changed = api.simulate_patch(path_of(hook), json={"all_sessions": False})
    assert changed.json == hook["webhook"] | {"all_sessions": False}
    moved = api.simulate_patch(path_of(hook), json={"url": web.url("/other")})
    assert moved.json == changed.json | {"url": web.url("/other")}
    off = api.simulate_patch(path_of(hook), json={"enabled": False}).json
    assert (off["state"], off["disabled_reason"]) == ("disabled", "turned off by its owner")
    for body in ({"secret": "x"}, {"enabled": None}, {"url": ""}, {"url": 7}):
        assert_problem(api.simulate_patch(path_of(hook), json=body), 400, "invalid-body")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://2130706433/",
        "ftp://example.org/",
        "http://a:b@example.org/",
        "http://example.org:25/",
        "hook",
    ],
)
def test_an_address_that_is_not_public_is_refused_at_registration(
    api: Api, hook: Any, url: str
) -> None:
    for refused in (
        api.simulate_post("/v1/webhooks", json={"url": url}),
        api.simulate_patch(path_of(hook), json={"url": url}),
    ):
        assert_problem(refused, 400, "invalid-body")
        assert [each["field"] for each in refused.json["errors"]] == ["url"]


def test_a_name_that_leads_to_a_private_address_is_refused_at_delivery(
    api: Api, memory_settings: Settings, runtime: Runtime, web: Web
) -> None:
    hook = register(api, web, url=web.url(PATH, host="localhost"))
    cancelled(runtime)
    settings = replace(memory_settings, private_networks=())
    strict = Runtime(settings, broker.setup(settings))
    tell(strict)
    strict.close()
    assert web.asked == []
    [delivery] = deliveries(api, hook)
    assert delivery["state"] == "pending"
    assert delivery["log"][0]["error"] == "the URL leads to an address that is not public"


def test_a_foreign_webhook_is_not_there(api: Api, app: App, runtime: Runtime, hook: Any) -> None:
    cancelled(runtime)
    [delivery] = deliveries(api, hook)
    with runtime.store.transaction() as db:
        key = accounts.add_key(db, accounts.add_user(db, uuid.uuid4(), "other@example.org"))
    other = accounts.client(app, key)
    assert other.simulate_get("/v1/webhooks").json["items"] == []
    for result in (
        other.simulate_get(path_of(hook)),
        other.simulate_patch(path_of(hook), json={"enabled": False}),
        other.simulate_delete(path_of(hook)),
        other.simulate_post(path_of(hook, "rotate")),
        other.simulate_post(path_of(hook, "test")),
        other.simulate_get(path_of(hook, "deliveries")),
        other.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay")),
    ):
        assert_problem(result, 404, "webhook-not-found")
    admin = accounts.client(app, accounts.ADMIN_KEY)
    assert admin.simulate_get(path_of(hook)).json["id"] == hook["webhook"]["id"]


def test_a_user_has_so_many_webhooks_at_most(
    api: Api, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.webhooks.resources.MOST_WEBHOOKS", 2)
    for _ in range(2):
        register(api, web)
    refused = api.simulate_post("/v1/webhooks", json={"url": web.url(PATH)})
    assert_problem(refused, 409, "too-many-webhooks")


def test_deliveries_are_paged(api: Api, runtime: Runtime, hook: Any) -> None:
    made = [str(cancelled(runtime)) for _ in range(5)]
    found: list[str] = []
    cursor = ""
    for n_items in (2, 2, 1):
        page = api.simulate_get(path_of(hook, "deliveries"), query_string=f"limit=2{cursor}").json
        assert len(page["items"]) == n_items
        found += [each["session_id"] for each in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert found == made[::-1]
    for bad in ("x", "%ff", "MjAyNi0wMS0wMSB4"):
        result = api.simulate_get(path_of(hook, "deliveries"), query_string=f"cursor={bad}")
        assert_problem(result, 400, "invalid-parameter")


def test_what_was_told_long_ago_is_forgotten(
    api: Api,
    runtime: Runtime,
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cleanup, "PAGE_ROWS", 2)
    kept = [cancelled(runtime) for _ in range(6)][-1]
    with runtime.store.transaction() as db:
        db.execute(
            text(
                "UPDATE webhook_deliveries SET created_at = now() - interval '31 days'"
                " WHERE session_id <> :kept"
            ),
            {"kept": kept},
        )
    pipeline.handle(runtime, CleanUp())
    assert [each["session_id"] for each in deliveries(api, hook)] == [str(kept)]


def test_recovery_nudges_a_webhook_once_for_all_that_it_is_to_be_told(
    runtime: Runtime, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        cancelled(runtime)
    with runtime.store.transaction() as db:
        backlog = queue_queries.backlogs(db)["webhook"]
    assert backlog.oldest_s is not None
    assert 0 <= backlog.oldest_s < 60
    with runtime.store.transaction() as db:
        [work] = webhook_queries.take_stalled_webhooks(db, quiet_s=30, limit=9)
        assert webhook_queries.take_stalled_webhooks(db, quiet_s=30, limit=9) == []
    webhook_id = uuid.UUID(hook["webhook"]["id"])
    assert nudge_for(work) == DeliverWebhook(webhook_id=webhook_id)
    sent: list[Any] = []
    monkeypatch.setattr(runtime.publisher, "send", lambda *nudges: sent.extend(nudges))
    # Each delivery nudges the next, until none is left.
    for n_left in (2, 1, 0):
        pipeline.handle(runtime, nudge_for(work))
        assert sent == [DeliverWebhook(webhook_id=webhook_id)] * min(n_left, 1)
        sent.clear()


# --- the page ----------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()


def shown_as(language: str) -> str:
    """Return the first code block of docs/webhooks.md in a language."""
    return PAGE.partition(f"```{language}\n")[2].partition("```")[0]


def test_the_receiver_of_the_page_receives(
    api: Api, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver: dict[str, Any] = {"__name__": "receiver"}
    exec(shown_as("python"), receiver)  # noqa: S102  (it is our own page)
    server = HTTPServer(("127.0.0.1", 0), receiver["Receiver"])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        hook = api.simulate_post("/v1/webhooks", json={"url": url}).json
        receiver["SECRET"] = "whsec_c29tZWJvZHkgZWxzZQ=="
        session_id = cancelled(runtime)
        tell(runtime)
        assert deliveries(api, hook)[0]["log"][0]["status"] == 400
        receiver["SECRET"] = hook["secret"]
        for _ in range(2):
            pass_time(runtime)
            tell(runtime)
            [delivery] = deliveries(api, hook)
            assert delivery["state"] == "delivered"
            api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    line = f"session.cancelled /v1/sessions/{session_id}\n"
    assert capsys.readouterr().out.count(line) == 1


def test_the_event_of_the_page_is_that_of_the_code() -> None:
    shown = json.loads(shown_as("json"))
    assert set(shown) == set(notify.Event.__struct_fields__)
    assert set(shown["data"]) == set(notify.EndedSession.__struct_fields__)
