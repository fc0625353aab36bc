"""The endpoints of webhooks."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.maintenance import cleanup
from actors.messaging import broker
from actors.messaging.messages import CleanUp
from db.settings import Settings
from tests.integration.webhooks.receivers import (
    PATH,
    assert_problem,
    cancelled,
    deliveries,
    path_of,
    register,
    tell,
)
from tests.support import accounts, pipeline
from tests.support.api import Api, App
from tests.support.web import Web

pytestmark = pytest.mark.integration


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
    assert "not public" in delivery["log"][0]["error"]


def test_a_foreign_webhook_is_not_there(api: Api, app: App, runtime: Runtime, hook: Any) -> None:
    cancelled(runtime)
    [delivery] = deliveries(api, hook)
    with runtime.store.transaction() as tx:
        key = accounts.add_key(tx, accounts.add_user(tx, uuid.uuid4(), "other@example.org"))
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
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "UPDATE webhook_deliveries SET created_at = now() - interval '31 days'"
                " WHERE session_id <> :kept"
            ),
            {"kept": kept},
        )
    pipeline.handle(runtime, CleanUp())
    assert [each["session_id"] for each in deliveries(api, hook)] == [str(kept)]
