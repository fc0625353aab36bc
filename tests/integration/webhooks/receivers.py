"""Webhooks of a test, and their receiver."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import text
from standardwebhooks import Webhook as Library

from actors.execution.runtime import Runtime
from actors.messaging.messages import DeliverWebhook
from db.queries import queue_queries, session_queries
from db.queries.queue_queries import WEBHOOKS
from tests.support import accounts, pipeline
from tests.support.api import Api
from tests.support.web import Web

PATH = "/hook"


def register(api: Api, web: Web, **asked: Any) -> Any:
    """Register the receiver; return the webhook and its secret."""
    made = api.simulate_post("/v1/webhooks", json={"url": web.url(PATH)} | asked)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"/v1/webhooks/{made.json['webhook']['id']}"
    return made.json


def path_of(hook: Any, *more: str) -> str:
    return "/".join(["/v1/webhooks", hook["webhook"]["id"], *more])


def cancelled(runtime: Runtime, **values: Any) -> uuid.UUID:
    """Add a cancelled session."""
    session_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            file_name="a.wav",
            size_bytes=1,
            recording_key="k",
            **{"user_id": accounts.TEAM} | values,
        )
        assert session_queries.cancel_session(tx, session_id)
    return session_id


def tell(runtime: Runtime) -> None:
    """Deliver everything that is due."""
    for _ in range(50):
        with runtime.store.transaction() as tx:
            found = queue_queries.take_stalled(tx, WEBHOOKS, unnudged_s=0, limit=100)
        for names in found:
            pipeline.handle(runtime, DeliverWebhook(**names))
        if not found:
            return
    raise AssertionError("there is no end to what is told")


def pass_time(runtime: Runtime) -> None:
    """Let every pause be over."""
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE webhooks SET due_at = now()"))
        tx.execute(text("UPDATE webhook_deliveries SET next_at = now() WHERE state = 'pending'"))


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


class Killed(BaseException):
    """Stands for a worker that is killed; nothing catches it."""
