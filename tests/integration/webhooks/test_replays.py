"""Replays, pings and the rotation of secrets."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks import WebhookVerificationError

from actors.execution.runtime import Runtime
from db.queries import idempotency_queries
from services.http.request_leases import RequestLeases
from tests.integration.webhooks.receivers import (
    Killed,
    answers,
    assert_problem,
    cancelled,
    deliveries,
    ids,
    path_of,
    register,
    tell,
    told,
)
from tests.support.api import Api
from tests.support.cluster import eventually
from tests.support.web import Web

pytestmark = pytest.mark.integration


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
        patch.setattr(RequestLeases, "hold", lambda *_: None)
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
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE webhooks SET old_secret_until = now()"))
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
