"""Webhooks that are disabled or removed."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import DeliverWebhook
from tests.integration.webhooks.receivers import (
    PATH,
    answers,
    assert_problem,
    cancelled,
    deliveries,
    pass_time,
    path_of,
    tell,
    told,
)
from tests.support import accounts, pipeline
from tests.support.api import Api, App
from tests.support.web import Request, Web

pytestmark = pytest.mark.integration


def test_a_receiver_that_is_gone_is_told_nothing_more_until_it_is_enabled(
    api: Api, runtime: Runtime, web: Web, hook: Any
) -> None:
    answers(web, 410, 200)
    first = cancelled(runtime)
    second = cancelled(runtime)
    tell(runtime)
    shown = api.simulate_get(path_of(hook)).json
    assert shown["state"] == "disabled"
    assert "410" in shown["disabled_reason"]
    cancelled(runtime)
    pass_time(runtime)
    tell(runtime)
    assert len(web.asked) == 1
    states = {each["session_id"]: each["state"] for each in deliveries(api, hook)}
    assert states == {str(first): "failed", str(second): "pending"}
    for more in (["test"], ["deliveries", deliveries(api, hook)[0]["id"], "replay"]):
        assert shown["disabled_reason"] in assert_problem(
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
        with runtime.store.transaction() as tx:
            tx.execute(
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
    assert reason.startswith("9 tries")
    assert "500" in reason


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
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM webhook_deliveries")).scalar_one() == 0
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
    with runtime.store.transaction() as tx:
        results = tx.execute(text("SELECT result FROM processing_metrics")).scalars().all()
    assert results == ["superseded"]
