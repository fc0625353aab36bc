"""Calls of batches over HTTP, and a worker in this process."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from actors import worker
from actors.batches.expand import batch_process_files
from actors.execution.runtime import Runtime
from actors.messaging.messages import BatchProcessFiles
from actors.recovery import take_stalled
from db.queries import batch_queries
from tests.support.api import Api

PAGE = batch_queries.PAGE_ITEMS


def work(runtime: Runtime) -> None:
    """Handle every nudge twice until no work item is due."""
    for _ in range(30):
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=1_000)
        for nudge in found * 2:
            worker.HANDLERS[type(nudge)](runtime, nudge)
        if not found:
            return
    raise AssertionError("the work never ends")


def form(files: Sequence[tuple[str, bytes]]) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + b"--x--\r\n"


FORM = {"Content-Type": "multipart/form-data; boundary=x"}


def send(api: Api, body: bytes, **options: Any) -> Any:
    return api.simulate_post("/v1/batches", body=body, headers=FORM, **options)


def name(api: Api, body: dict[str, Any], **options: Any) -> Any:
    return api.simulate_post("/v1/batches", json=body, **options)


def items(api: Api, batch: Any) -> Any:
    return api.simulate_get(f"/v1/batches/{batch['id']}/items").json["items"]


def look(api: Api, batch: Any) -> Any:
    return api.simulate_get(f"/v1/batches/{batch['id']}").json


def expand(runtime: Runtime, batch: Any) -> None:
    batch_process_files(runtime, BatchProcessFiles(batch_id=uuid.UUID(batch["id"])))


def assert_problem(result: Any, status: int, problem: str) -> str:
    assert result.status_code == status, result.text
    assert result.json["type"] == f"/problems/{problem}"
    return str(result.json["detail"])


def count_sessions(runtime: Runtime) -> int:
    with runtime.store.transaction() as tx:
        return int(tx.execute(text("SELECT count(*) FROM audio_sessions")).scalar_one())


def fill(
    runtime: Runtime, n_files: int, content: bytes = b"x", folder: str = "week 7"
) -> list[str]:
    keys = [f"inbox/{folder}/{index:04d}.flac" for index in range(n_files)]
    for key in keys:
        runtime.blobs.put(key, content)
    return keys
