"""Train, validate, promote and use models through the API."""

from __future__ import annotations

import json
from typing import Any

from actors import worker
from actors.execution.runtime import Runtime
from actors.recovery import take_stalled
from tests.support import labelled, recordings
from tests.support.api import Api


def work(runtime: Runtime) -> None:
    """Handle every nudge twice until no work item is due."""
    for _ in range(20):
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=100)
        for nudge in found * 2:
            worker.HANDLERS[type(nudge)](runtime, nudge)
        if not found:
            return
    raise AssertionError("the work never ends")


def post(
    admin: Api,
    path: str,
    texts: dict[str, Any],
    files: dict[str, bytes] | None = None,
    *,
    model: bytes | None = None,
) -> Any:
    body, headers = labelled.form(texts, files or {}, model=model)
    return admin.simulate_post(path, body=body, headers=headers)


def train(
    admin: Api,
    runtime: Runtime,
    manifest: str,
    files: dict[str, bytes],
    **options: Any,
) -> Any:
    """Train to the end; return the training as the API shows it."""
    options = {"algorithm": "random_forest"} | options
    posted = post(
        admin, "/v1/models", {"options": json.dumps(options), "manifest": manifest}, files
    )
    assert posted.status_code == 202, posted.text
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


def validate(
    admin: Api,
    runtime: Runtime,
    model_id: str,
    manifest: str | None = None,
    files: dict[str, bytes] | None = None,
) -> Any:
    path = f"/v1/models/{model_id}/validate"
    if manifest is None:
        posted = admin.simulate_post(path)
    else:
        posted = post(admin, path, {"manifest": manifest}, files)
    assert posted.status_code == 202, posted.text
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


def promote(admin: Api, model_id: str, *, force: bool = False) -> Any:
    return admin.simulate_post(f"/v1/models/{model_id}/promote", json={"force": force})


def listen(admin: Api, runtime: Runtime) -> Any:
    """Post a recording and process it; return the finished session."""
    posted = admin.simulate_post(
        "/v1/sessions",
        body=recordings.encode(labelled.sound("mains_hum", seconds=4), rate_hz=16_000),
        headers={"Content-Type": "audio/flac"},
    )
    work(runtime)
    return admin.simulate_get(posted.headers["location"]).json


def assert_problem(result: Any, status: int, name: str) -> str:
    assert result.status_code == status, result.text
    assert result.json["type"] == f"/problems/{name}"
    return str(result.json["detail"])
