"""Sessions to export, and the files of exports."""

from __future__ import annotations

import csv
import io
import uuid
from typing import Any

import falcon.testing

from actors.execution.runtime import Runtime
from actors.messaging.messages import ExportSessionData
from db.queries import export_queries, session_queries
from db.tables.exports import Export
from tests.support import pipeline
from tests.support.api import Api
from tests.support.pipeline import handle

App = falcon.App[falcon.Request, falcon.Response]


def add(
    runtime: Runtime,
    *starts_s: float,
    content: bytes = b"fLaC",
    state: str = "completed",
    noise_type: str = "rain",
    **values: Any,
) -> uuid.UUID:
    """Add an ended session with one detection at each of the given seconds."""
    session_id = pipeline.add(runtime, content)
    with runtime.store.transaction() as tx:
        now = session_queries.clock(tx)
        ended: dict[str, Any] = {"finished_at": now, "rate_hz": 44_100} | values
        pipeline.put_into(tx, session_id, state, **ended)
        session_queries.add_detections(
            tx,
            session_id,
            [
                {
                    "noise_type": noise_type,
                    "confidence": 0.5 + at / 1_000,
                    "start_s": at,
                    "end_s": at + 0.5,
                    "laeq_db": -40.0,
                }
                for at in starts_s
            ],
        )
    return session_id


def made(api: Api, runtime: Runtime, **asked: Any) -> dict[str, Any]:
    """Run an export and return it."""
    answered = api.simulate_post("/v1/exports", json={"format": "csv"} | asked)
    assert answered.status_code == 202, answered.text
    assert answered.headers["location"] == f"/v1/exports/{answered.json['id']}"
    assert (answered.json["state"], answered.json["rows_written"]) == ("pending", None)
    handle(runtime, ExportSessionData(export_id=uuid.UUID(answered.json["id"])))
    seen: dict[str, Any] = api.simulate_get(answered.headers["location"]).json
    return seen


def file_of(api: Api, made: dict[str, Any]) -> falcon.testing.Result:
    return api.simulate_get(f"/v1/exports/{made['id']}/file")


def rows_of(api: Api, made: dict[str, Any]) -> list[dict[str, str]]:
    answered = file_of(api, made)
    assert answered.status_code == 200, answered.text
    return list(csv.DictReader(io.StringIO(answered.text, newline="")))


def ids(*session_ids: uuid.UUID) -> list[str]:
    return [str(each) for each in session_ids]


def get(runtime: Runtime, export_id: object) -> Export | None:
    with runtime.store.transaction() as tx:
        return export_queries.get_export(tx, uuid.UUID(str(export_id)))


def left(runtime: Runtime) -> list[str]:
    """Return the exports that have files."""
    return sorted({key.split("/")[1] for key in runtime.blobs.keys("exports/")})
