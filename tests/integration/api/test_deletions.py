"""Batches, reports and models are deleted, unless something still needs them."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.recovery import Recovery
from db.blobs.keys import report_key, training_prefix
from db.ids import new_id
from db.queries import batch_queries, model_queries, report_queries
from tests.support import accounts, recordings
from tests.support.api import Api, App
from tests.support.pipeline import add, run_to_the_end

pytestmark = pytest.mark.integration


def problem_of(result: Any) -> tuple[int, str]:
    return result.status_code, result.json["type"].removeprefix("/problems/")


def model(runtime: Runtime, **values: Any) -> uuid.UUID:
    """Add a model of the team with a file and a picture."""
    prefix = training_prefix(new_id())
    runtime.blobs.put(f"{prefix}model-1", b"model")
    runtime.blobs.put(f"{prefix}confusion-1.png", b"picture")
    with runtime.store.transaction() as tx:
        return model_queries.register_model(
            tx,
            name="hums",
            version="1",
            sha256=uuid.uuid4().hex * 2,
            header={"classes": ["hum"]},
            blob_key=f"{prefix}model-1",
            confusion_key=f"{prefix}confusion-1.png",
            user_id=accounts.TEAM,
            **values,
        )


def test_a_batch_is_deleted_after_its_sessions(runtime: Runtime, api: Api) -> None:
    batch_id = new_id()
    path = f"/v1/batches/{batch_id}"
    with runtime.store.transaction() as tx:
        batch_queries.add_batch(
            tx, id=batch_id, user_id=accounts.TEAM, state="receiving", options={}
        )
    session_id = add(runtime, b"x", batch_id=batch_id)
    assert problem_of(api.simulate_delete(path)) == (409, "not-finished")
    api.simulate_post(f"{path}/cancel")
    assert problem_of(api.simulate_delete(path)) == (409, "batch-not-empty")
    answered = api.simulate_post("/v1/sessions/deletions", json={"batch_id": str(batch_id)})
    assert (answered.json["deleted"], answered.json["left"]) == (1, 0)
    assert api.simulate_get(f"/v1/sessions/{session_id}").status_code == 404
    assert [api.simulate_delete(path).status_code for _ in range(2)] == [204, 404]


def test_a_report_is_deleted_with_its_page(runtime: Runtime, api: Api, app: App) -> None:
    report_id, page_id = new_id(), new_id()
    with runtime.store.transaction() as tx:
        report_queries.ask_for_report(
            tx,
            id=report_id,
            day=date(2026, 3, 14),
            time_zone="UTC",
            user_id=None,
            starts_at=datetime(2026, 3, 14, tzinfo=UTC),
            ends_at=datetime(2026, 3, 15, tzinfo=UTC),
        )
    runtime.blobs.put(report_key(report_id, page_id), b"page")
    path = f"/v1/reports/{report_id}"
    # It covers all users.
    assert api.simulate_delete(path).status_code == 404
    admin = accounts.client(app, accounts.ADMIN_KEY)
    assert [admin.simulate_delete(path).status_code for _ in range(2)] == [204, 404]
    Recovery(runtime).round()
    assert runtime.blobs.keys("reports/") == []


def test_a_model_is_deleted_with_its_files_and_sessions_keep_their_results(
    runtime: Runtime, api: Api
) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    before = run_to_the_end(runtime, session_id)
    model_id = model(runtime)
    path = f"/v1/models/{model_id}"
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE audio_sessions SET model_id = :id"), {"id": model_id})
        model_queries.add_promotion(tx, model_id=model_id, forced=False, comparison={})
        assert before.model_id is not None
        model_queries.add_promotion(tx, model_id=before.model_id, forced=False, comparison={})
    assert [api.simulate_delete(path).status_code for _ in range(2)] == [204, 404]
    Recovery(runtime).round()
    assert runtime.blobs.keys("trainings/") == []
    shown = api.simulate_get(f"/v1/sessions/{session_id}").json
    assert (shown["state"], shown["model_id"]) == ("completed", None)
    assert before.summary is not None
    assert shown["summary"]["model"] == before.summary["model"]


def in_use(runtime: Runtime) -> uuid.UUID:
    model_id = model(runtime)
    with runtime.store.transaction() as tx:
        model_queries.add_promotion(tx, model_id=model_id, forced=False, comparison={})
    return model_id


def of_an_unfinished_session(runtime: Runtime) -> uuid.UUID:
    model_id = model(runtime)
    add(runtime, b"x", model_id=model_id)
    return model_id


def of_an_unfinished_validation(runtime: Runtime) -> uuid.UUID:
    model_id = model(runtime)
    with runtime.store.transaction() as tx:
        model_queries.add_validation(tx, id=new_id(), model_id=model_id)
    return model_id


def of_an_open_batch(runtime: Runtime) -> uuid.UUID:
    model_id = model(runtime)
    with runtime.store.transaction() as tx:
        batch_queries.add_batch(
            tx, id=new_id(), state="receiving", options={"model_id": str(model_id)}
        )
    return model_id


def of_a_release(runtime: Runtime) -> uuid.UUID:
    model_id = model(runtime, is_shipped=True)
    in_use(runtime)
    return model_id


@pytest.mark.parametrize(
    "make",
    [
        in_use,
        of_an_unfinished_session,
        of_an_unfinished_validation,
        of_an_open_batch,
        of_a_release,
    ],
)
def test_a_model_that_is_needed_stays(runtime: Runtime, api: Api, make: Any) -> None:
    model_id = make(runtime)
    assert problem_of(api.simulate_delete(f"/v1/models/{model_id}")) == (409, "model-in-use")
    assert api.simulate_get(f"/v1/models/{model_id}").status_code == 200


def test_only_its_user_and_administrators_delete_a_model(
    runtime: Runtime, api: Api, admin: Api
) -> None:
    model_id = model(runtime)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE noise_models SET user_id = :id"), {"id": accounts.ADMIN})
    assert api.simulate_delete(f"/v1/models/{model_id}").status_code == 404
    assert admin.simulate_delete(f"/v1/models/{model_id}").status_code == 204
