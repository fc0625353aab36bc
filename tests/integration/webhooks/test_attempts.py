"""Deliveries that fail, are slow, or whose worker dies."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import kinds
from actors.messaging.messages import DeliverWebhook
from actors.outbound.pinning import ExchangeLimits
from actors.recovery import take_stalled
from actors.webhooks import deliver as notify
from db.queries import webhook_queries
from tests.integration.webhooks.receivers import (
    PATH,
    Killed,
    answers,
    cancelled,
    deliveries,
    ids,
    pass_time,
    path_of,
    register,
    tell,
    told,
)
from tests.support import pipeline
from tests.support.api import Api
from tests.support.web import Request, Web

pytestmark = pytest.mark.integration


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
    *failed, last = delivery["log"]
    assert [each["status"] for each in failed] == [500, 302]
    assert all(str(each["status"]) in each["error"] for each in failed)
    assert (last["status"], last["error"]) == (200, None)
    shown = api.simulate_get(path_of(hook)).json
    assert (shown["failures"], shown["failing_since"], shown["state"]) == (0, None, "active")


def test_tries_end_after_two_days(api: Api, runtime: Runtime, web: Web, hook: Any) -> None:
    answers(web, 503)
    cancelled(runtime)
    waited_s = 0.0
    for _ in range(20):
        tell(runtime)
        with runtime.store.transaction() as tx:
            waited_s += float(
                tx.execute(
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
    monkeypatch.setattr(notify, "LIMITS", ExchangeLimits(total_s=1.2, most_bytes=0))
    web.pages[PATH] = lambda _request: web.ends.wait()
    for _ in range(3):
        cancelled(runtime)
    tell(runtime)
    # The other deliveries wait, too: they would take as long.
    assert len(web.asked) == 1
    told_of = [each for each in deliveries(api, hook) if each["tries"]]
    assert [each["log"][0]["status"] for each in told_of] == [None]
    assert "1.2 s" in told_of[0]["log"][0]["error"]
    with runtime.store.transaction() as tx:
        due_at = tx.execute(text("SELECT due_at FROM webhooks")).scalar_one()
        backlog = kinds.backlogs(tx)["webhooks.deliver"]
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
    with runtime.store.transaction() as tx:
        assert kinds.backlogs(tx)["webhooks.deliver"].held == 1
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
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE webhooks SET attempt = 99"))
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
    with runtime.store.transaction() as tx:
        claim = webhook_queries.take_delivery(webhook_id, tx, lease_s=30)
        assert claim is not None
    pass_time(runtime)
    tell(runtime)
    [delivery] = deliveries(api, hook)
    assert (
        api.simulate_post(path_of(hook, "deliveries", delivery["id"], "replay")).status_code == 202
    )
    with runtime.store.transaction() as tx:
        again = webhook_queries.take_delivery(webhook_id, tx, lease_s=30)
        assert again is not None
        assert (again.attempt, again.work.delivery_id) == (claim.attempt, claim.work.delivery_id)
        late: dict[str, Any] = {"webhook": {}, "rest_s": 0.0, "delivery": {"state": "failed"}}
        assert not webhook_queries.end_try(tx, claim.work, attempt=claim.attempt, **late)


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


def test_recovery_nudges_a_webhook_once_for_all_that_it_is_to_be_told(
    runtime: Runtime, hook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        cancelled(runtime)
    with runtime.store.transaction() as tx:
        backlog = kinds.backlogs(tx)["webhooks.deliver"]
    assert backlog.oldest_s is not None
    assert 0 <= backlog.oldest_s < 60
    with runtime.store.transaction() as tx:
        [nudge] = take_stalled(tx, unnudged_s=30, limit=9)
        assert take_stalled(tx, unnudged_s=30, limit=9) == []
    webhook_id = uuid.UUID(hook["webhook"]["id"])
    assert nudge == DeliverWebhook(webhook_id=webhook_id)
    sent: list[Any] = []
    monkeypatch.setattr(runtime.publisher, "send", lambda *nudges: sent.extend(nudges))
    # Each delivery nudges the next, until none is left.
    for n_left in (2, 1, 0):
        pipeline.handle(runtime, nudge)
        assert sent == [DeliverWebhook(webhook_id=webhook_id)] * min(n_left, 1)
        sent.clear()
