"""Who sees an export, and for how long."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import update

from actors.execution.runtime import Runtime
from actors.maintenance import retention
from actors.messaging.messages import CleanUp, CleanUpOldSessions, ExportSessionData
from actors.recovery import Recovery
from db.queries import session_queries
from db.tables.exports import Export
from tests.integration.analytics.exported import App, add, file_of, get, ids, left, made, rows_of
from tests.support import accounts, pipeline
from tests.support.api import Api
from tests.support.clock import ask
from tests.support.pipeline import age_ends, handle

pytestmark = pytest.mark.integration


def test_a_foreign_key_sees_nothing(api: Api, app: App, runtime: Runtime) -> None:
    stranger_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        accounts.add_user(tx, stranger_id, "stranger@example.org")
        key = accounts.add_key(tx, stranger_id)
    stranger = accounts.client(app, key)
    session_id = add(runtime, 1.0)
    done = made(api, runtime, session_ids=ids(session_id))
    path = f"/v1/exports/{done['id']}"
    for method, each in (("GET", path), ("GET", f"{path}/file"), ("DELETE", path)):
        refused = stranger.simulate_request(method, each)
        assert (refused.status_code, refused.json["type"]) == (404, "/problems/export-not-found")
    assert stranger.simulate_get("/v1/exports").json["items"] == []
    named = stranger.simulate_post(
        "/v1/exports", json={"format": "csv", "session_ids": ids(session_id)}
    )
    assert (named.status_code, named.json["type"]) == (404, "/problems/session-not-found")
    # Without a session ID, the export covers the stranger's own sessions, which are none.
    assert rows_of(stranger, made(stranger, runtime)) == []
    # An administrator's export covers all sessions.
    admin = accounts.client(app, accounts.ADMIN_KEY)
    assert [row["session_id"] for row in rows_of(admin, made(admin, runtime))] == ids(session_id)
    assert api.simulate_get(path).status_code == 200
    # A key of the same user without the admin scope cannot read an export of all users' data.
    with runtime.store.transaction() as tx:
        lesser = accounts.client(app, accounts.add_key(tx, accounts.ADMIN))
    of_all = made(admin, runtime)
    path = f"/v1/exports/{of_all['id']}"
    for method, each in (("GET", path), ("GET", f"{path}/file"), ("DELETE", path)):
        assert lesser.simulate_request(method, each).status_code == 404
    assert lesser.simulate_get("/v1/exports").json["items"] == []
    assert of_all in admin.simulate_get("/v1/exports").json["items"]


def test_whose_user_is_gone_is_of_nobody(api: Api, runtime: Runtime) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json
    with runtime.store.transaction() as tx:
        tx.execute(update(Export).values(user_id=None))
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    row = get(runtime, asked["id"])
    assert row is not None
    assert (row.state, row.rows_written) == ("completed", 0)


def test_what_cannot_be_exported_is_refused(api: Api, runtime: Runtime) -> None:
    running = pipeline.add(runtime, b"fLaC")
    for body, status, problem in (
        ({"format": "csv", "session_ids": ids(running)}, 409, "not-finished"),
        ({"format": "csv", "session_ids": ids(uuid.uuid4())}, 404, "session-not-found"),
        ({"format": "csv", "batch_id": str(uuid.uuid4())}, 404, "batch-not-found"),
        ({"format": "wav"}, 400, "invalid-body"),
        ({"format": "csv", "session_id": str(running)}, 400, "invalid-body"),
        ({"format": "csv", "min_confidence": 2}, 400, "invalid-body"),
        ({}, 400, "invalid-body"),
    ):
        refused = api.simulate_post("/v1/exports", json=body)
        assert (refused.status_code, refused.json["type"]) == (status, f"/problems/{problem}")
    assert api.simulate_get("/v1/exports").json["items"] == []


def test_a_file_is_there_when_it_is_done_and_until_it_expires(api: Api, runtime: Runtime) -> None:
    session_id = add(runtime, 1.0)
    asked = api.simulate_post(
        "/v1/exports", json={"format": "csv", "session_ids": ids(session_id)}
    ).json
    early = file_of(api, asked)
    assert (early.status_code, early.json["type"]) == (409, "/problems/export-not-done")
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    # A repeated message changes nothing.
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert len(rows_of(api, asked)) == 1
    row = get(runtime, asked["id"])
    assert row is not None
    assert row.expires_at - row.created_at == pytest.approx(
        timedelta(days=7), abs=timedelta(minutes=1)
    )
    kept = made(api, runtime)
    expire(runtime, asked["id"])
    late = file_of(api, asked)
    assert (late.status_code, late.json["type"]) == (410, "/problems/export-expired")
    result = ask(runtime, CleanUp()).result
    assert result is not None
    assert result["exports"] == 1
    assert file_of(api, asked).status_code == 404
    assert left(runtime) == [kept["id"]]
    assert len(rows_of(api, kept)) == 1


def expire(runtime: Runtime, export_id: object) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(
            update(Export)
            .where(Export.id == uuid.UUID(str(export_id)))
            .values(expires_at=session_queries.clock(tx))
        )


def test_an_export_can_be_removed(api: Api, runtime: Runtime) -> None:
    add(runtime, 1.0)
    done = made(api, runtime)
    assert api.simulate_delete(f"/v1/exports/{done['id']}").status_code == 204
    assert api.simulate_delete(f"/v1/exports/{done['id']}").status_code == 404
    Recovery(runtime).round()
    assert left(runtime) == []


def test_exports_of_a_session_go_with_it(api: Api, runtime: Runtime) -> None:
    old, young = add(runtime, 1.0), add(runtime, 2.0)
    alone = made(api, runtime, session_ids=ids(old))
    both = made(api, runtime, session_ids=ids(old, young))
    with runtime.store.transaction() as tx:
        age_ends(tx, days=40, session_id=old)
    result = ask(runtime, CleanUpOldSessions()).result
    assert result is not None
    assert result["sessions"] == 1
    assert get(runtime, alone["id"]) is None
    Recovery(runtime).round()
    assert left(runtime) == [both["id"]]
    assert len(rows_of(api, both)) == 2
    assert retention.PAGE_SESSIONS > 1


def test_exports_are_listed(api: Api, runtime: Runtime) -> None:
    add(runtime, 1.0)
    first, second = made(api, runtime), made(api, runtime, format="rttm", noise_types=["rain"])
    page = api.simulate_get("/v1/exports", params={"limit": 1}).json
    assert page["items"] == [second]
    assert second["selection"]["noise_types"] == ["rain"]
    rest = api.simulate_get("/v1/exports", params={"limit": 1, "cursor": page["next_cursor"]}).json
    assert (rest["items"], rest["next_cursor"]) == ([first], None)
    assert api.simulate_get("/v1/exports", params={"state": "failed"}).json["items"] == []


def test_an_export_of_a_restored_database_whose_file_is_gone(api: Api, runtime: Runtime) -> None:
    """It expired since the dump, and ``clean_up`` removed its file."""
    add(runtime, 1.0)
    kept = made(api, runtime)
    row = get(runtime, kept["id"])
    assert row is not None
    assert row.blob_key is not None
    runtime.blobs.delete(row.blob_key)
    gone = file_of(api, kept)
    assert (gone.status_code, gone.json["type"]) == (410, "/problems/export-expired")
    assert len(rows_of(api, made(api, runtime))) == 1
