"""Deleted sessions: no row and no blob of them remains, whatever their workers do meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import insert, select, text, update

from actors.execution import runner, watchdog
from actors.execution.runtime import Runtime
from actors.messaging.messages import (
    AggregateSession,
    AnalyzeSession,
    DetectSpan,
    ExportSessionData,
    ProcessAudioFile,
    SplitRecording,
)
from actors.recovery import Recovery
from db import ownership
from db.blobs.keys import clip_key, product_key, session_prefix
from db.ids import new_id
from db.queries import session_queries
from db.tables.base import Base
from db.tables.retention import KeptClip, RemovedBlobs
from db.tables.sessions import AudioSession
from services.api.sessions import deletions
from services.cli.actions import deletions as cli_deletions
from services.client import Client
from tests.support import accounts, recordings
from tests.support.api import Api, App
from tests.support.pipeline import add, handle, run_to_the_end, session, split

pytestmark = pytest.mark.integration

SHORT = recordings.encode(recordings.demo())
#: Tables whose rows outlive their session by design: docs/privacy.md.
OUTLIVE = {"api_requests", "processing_metrics", "removed_blobs", "webhook_deliveries"}


def remove(api: Api, session_id: object) -> int:
    return api.simulate_delete(f"/v1/sessions/{session_id}").status_code


def traces(runtime: Runtime, session_id: uuid.UUID) -> set[str]:
    """Return the tables with a row that contains the ID, and the blobs below it."""
    with runtime.store.transaction() as tx:
        tables = {
            name
            for name in Base.metadata.tables
            if tx.execute(
                text(f"SELECT 1 FROM {name} t WHERE t::text LIKE :id LIMIT 1"),  # noqa: S608
                {"id": f"%{session_id}%"},
            ).first()
        }
    return (tables - OUTLIVE) | set(runtime.blobs.keys(session_prefix(session_id)))


def later(runtime: Runtime) -> None:
    """Let so much time pass that no worker can be writing any more."""
    by = timedelta(seconds=watchdog.silent_after_s(runtime.settings) + 1)
    with runtime.store.transaction() as tx:
        tx.execute(update(RemovedBlobs).values(finished_at=RemovedBlobs.finished_at - by))
    Recovery(runtime).round()


def one_claim_of(runtime: Runtime, memory: StubBroker) -> Runtime:
    return Runtime(replace(runtime.settings, one_claim_s=60.0), memory)


def queued(runtime: Runtime) -> tuple[uuid.UUID, Any]:
    session_id = add(runtime, SHORT)
    return session_id, ProcessAudioFile(session_id=session_id)


def splitting(runtime: Runtime) -> tuple[uuid.UUID, Any]:
    session_id, nudge = queued(runtime)
    handle(runtime, nudge)
    return session_id, SplitRecording(session_id=session_id)


def detecting(runtime: Runtime) -> tuple[uuid.UUID, Any]:
    session_id = split(runtime, SHORT)
    return session_id, DetectSpan(session_id=session_id, span_index=0)


def aggregating(runtime: Runtime) -> tuple[uuid.UUID, Any]:
    session_id, nudge = detecting(runtime)
    handle(runtime, nudge)
    return session_id, AggregateSession(session_id=session_id)


def analyzing(runtime: Runtime) -> tuple[uuid.UUID, Any]:
    session_id, nudge = aggregating(runtime)
    handle(runtime, nudge)
    return session_id, AnalyzeSession(session_id=session_id)


def exporting(api: Api, runtime: Runtime, **selection: object) -> tuple[uuid.UUID, Any]:
    session_id = add(runtime, SHORT)
    run_to_the_end(runtime, session_id)
    asked = {"format": "csv", **(selection or {"session_ids": [str(session_id)]})}
    made = api.simulate_post("/v1/exports", json=asked)
    assert made.status_code == 202
    return session_id, ExportSessionData(export_id=uuid.UUID(made.json["id"]))


@pytest.mark.parametrize("window", ["_perform", "_commit"])
@pytest.mark.parametrize(
    ("stage", "in_one_claim"),
    [
        (queued, False),
        (queued, True),
        (splitting, False),
        (detecting, False),
        (aggregating, False),
        (analyzing, False),
    ],
)
def test_a_worker_writes_nothing_after_the_deletion(
    runtime: Runtime,
    memory: StubBroker,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    stage: Callable[[Runtime], tuple[uuid.UUID, Any]],
    window: str,
    in_one_claim: bool,
) -> None:
    """Delete after the claim, before anything is read; and after the work, before its commit."""
    session_id, nudge = stage(runtime)
    answers = []
    undisturbed = getattr(runner, window)

    def disturbed(*args: Any, **options: Any) -> Any:
        answers.append(remove(api, session_id))
        return undisturbed(*args, **options)

    monkeypatch.setattr(runner, window, disturbed)
    worker = one_claim_of(runtime, memory) if in_one_claim else runtime
    handle(worker, nudge)
    monkeypatch.undo()
    assert answers == [204]
    Recovery(runtime).round()
    assert traces(runtime, session_id) == set()
    assert remove(api, session_id) == 404
    if in_one_claim:
        worker.close()


@pytest.mark.parametrize("window", ["_perform", "_commit"])
@pytest.mark.parametrize("selection", [{}, {"states": ["completed"]}])
def test_an_export_of_a_deleted_session_is_removed_while_it_is_written(
    runtime: Runtime,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    window: str,
    selection: dict[str, object],
) -> None:
    session_id, nudge = exporting(api, runtime, **selection)
    undisturbed = getattr(runner, window)

    def disturbed(*args: Any, **options: Any) -> Any:
        assert remove(api, session_id) == 204
        return undisturbed(*args, **options)

    monkeypatch.setattr(runner, window, disturbed)
    handle(runtime, nudge)
    monkeypatch.undo()
    Recovery(runtime).round()
    assert api.simulate_get(f"/v1/exports/{nudge.export_id}").status_code == 404
    assert runtime.blobs.keys("exports/") == []
    assert traces(runtime, session_id) == set()


def test_only_exports_that_may_contain_the_session_are_removed(runtime: Runtime, api: Api) -> None:
    other = add(runtime, SHORT)
    run_to_the_end(runtime, other)
    asked = ({"session_ids": [str(other)]}, {"created_to": "2020-01-01T00:00:00Z"})
    spared = [api.simulate_post("/v1/exports", json={"format": "csv", **each}) for each in asked]
    session_id, _ = exporting(api, runtime, created_from="2020-01-01T00:00:00Z")
    run_to_the_end(runtime, session_id)
    assert remove(api, session_id) == 204
    left = api.simulate_get("/v1/exports").json["items"]
    assert {each["id"] for each in left} == {each.json["id"] for each in spared}


def test_what_a_worker_leaves_after_the_first_removal_is_removed_at_last(
    runtime: Runtime, api: Api
) -> None:
    session_id, _ = detecting(runtime)
    assert remove(api, session_id) == 204
    Recovery(runtime).round()
    assert traces(runtime, session_id) == set()
    # A worker that is killed a moment later has written this.
    runtime.blobs.put(product_key(session_id, "pcm", attempt=3), b"decoded audio")
    Recovery(runtime).round()
    assert len(runtime.blobs.keys(session_prefix(session_id))) == 1
    later(runtime)
    assert runtime.blobs.keys(session_prefix(session_id)) == []
    with runtime.store.transaction() as tx:
        assert tx.scalars(select(RemovedBlobs)).all() == []


def test_a_session_under_legal_hold_stays(runtime: Runtime, api: Api, admin: Api) -> None:
    session_id, _ = detecting(runtime)
    admin.simulate_put(f"/v1/sessions/{session_id}/hold")
    refused = api.simulate_delete(f"/v1/sessions/{session_id}")
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/under-legal-hold")
    assert run_to_the_end(runtime, session_id).state == "completed"
    admin.simulate_delete(f"/v1/sessions/{session_id}/hold")
    assert remove(api, session_id) == 204


def test_others_cannot_delete_a_session_and_administrators_can(
    runtime: Runtime, app: App, admin: Api
) -> None:
    with runtime.store.transaction() as tx:
        stranger = accounts.client(app, accounts.add_key(tx, accounts.ADMIN, ["sessions:write"]))
    session_id = add(runtime, SHORT)
    assert remove(stranger, session_id) == 404
    assert session(runtime, session_id).state == "queued"
    assert remove(admin, session_id) == 204


def test_clips_of_a_session_past_its_retention_can_be_deleted(runtime: Runtime, api: Api) -> None:
    session_id, clip_id = new_id(), new_id()
    runtime.blobs.put(clip_key(clip_id), b"fLaC")
    with runtime.store.transaction() as tx:
        values = {"noise_type": "rain", "confidence": 0.5, "start_s": 0.0, "end_s": 1.0}
        kept = insert(KeptClip).values(
            id=clip_id,
            session_id=session_id,
            user_id=accounts.TEAM,
            file_name="a.wav",
            sent_at=session_queries.clock(tx),
            blob_key=clip_key(clip_id),
            **values,
        )
        tx.execute(kept)
    assert remove(api, session_id) == 204
    Recovery(runtime).round()
    assert (traces(runtime, session_id), runtime.blobs.keys("clips/")) == (set(), [])
    assert remove(api, session_id) == 404


def test_the_blobs_of_a_row_with_the_same_id_stay(runtime: Runtime, api: Api) -> None:
    """A batch that is sent again with its ID has sessions with the same IDs."""
    session_id = add(runtime, SHORT)
    assert remove(api, session_id) == 204
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx, id=session_id, file_name="a", recording_key=f"sessions/{session_id}/recording"
        )
    Recovery(runtime).round()
    later(runtime)
    assert len(runtime.blobs.keys(session_prefix(session_id))) == 1


def test_a_copy_of_the_database_removes_nothing_from_the_store(runtime: Runtime, api: Api) -> None:
    session_id = add(runtime, SHORT)
    ours = ownership.take(runtime.store, runtime.blobs, is_restored=False)
    with pytest.MonkeyPatch.context() as patch:
        other = replace_database(ours)
        patch.setattr(ownership, "of_database", lambda _store: other)
        assert remove(api, session_id) == 204
        Recovery(runtime).round()
        assert len(runtime.blobs.keys(session_prefix(session_id))) == 1
    Recovery(runtime).round()
    assert runtime.blobs.keys(session_prefix(session_id)) == []


def replace_database(owner: ownership.Owner) -> ownership.Owner:
    return ownership.Owner(owner.installation_id, "another database", owner.incarnation)


def usage(runtime: Runtime) -> float:
    with runtime.store.transaction() as tx:
        return float(tx.execute(text("SELECT sum(audio_s) FROM usage_months")).scalar_one())


def test_a_stream_of_events_ends_and_usage_stays(runtime: Runtime, api: Api) -> None:
    session_id = add(runtime, SHORT)
    run_to_the_end(runtime, session_id)
    used = usage(runtime)
    report = {"day": f"{session(runtime, session_id).created_at:%Y-%m-%d}", "time_zone": "UTC"}
    report_id = api.simulate_post("/v1/reports", json=report).json["id"]
    run_to_the_end(runtime, session_id)
    assert remove(api, session_id) == 204
    assert api.simulate_get(f"/v1/sessions/{session_id}/events").status_code == 404
    assert usage(runtime) == used > 0
    assert api.simulate_get(f"/v1/reports/{report_id}").json["is_stale"] is True


def test_the_sound_of_a_session_is_deleted_and_its_results_stay(runtime: Runtime, api: Api) -> None:
    session_id = add(runtime, SHORT)
    path = f"/v1/sessions/{session_id}"
    refused = api.simulate_delete(f"{path}/recording")
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/not-finished")
    ended = run_to_the_end(runtime, session_id)
    Recovery(runtime).round()
    shown = api.simulate_get(f"{path}/detections").json
    clips = api.simulate_post(
        "/v1/exports", json={"format": "clips", "session_ids": [str(session_id)]}
    ).json["id"]
    assert [api.simulate_delete(f"{path}/recording").status_code for _ in range(2)] == [204, 204]
    assert api.simulate_get(f"{path}/recording").json["type"] == "/problems/no-recording"
    Recovery(runtime).round()
    left = runtime.blobs.keys(session_prefix(session_id))
    assert set(left) == {ended.levels_key, ended.levels_answer_key}
    assert api.simulate_get(f"{path}/detections").json == shown
    assert api.simulate_get(f"/v1/exports/{clips}").status_code == 404
    row = api.simulate_get(path).json
    assert (row["privacy"], row["state"]) == ("discard_audio", "completed")
    assert row["audio_removed_at"] is not None


def test_the_sound_of_a_session_under_legal_hold_stays(
    runtime: Runtime, api: Api, admin: Api
) -> None:
    session_id = add(runtime, SHORT)
    run_to_the_end(runtime, session_id)
    admin.simulate_put(f"/v1/sessions/{session_id}/hold")
    refused = api.simulate_delete(f"/v1/sessions/{session_id}/recording")
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/under-legal-hold")


def test_sessions_are_deleted_by_a_filter_counted_first(
    runtime: Runtime, api: Api, admin: Api
) -> None:
    bridge = [add(runtime, b"x", user_metadata={"site": "bridge"}) for _ in range(3)]
    others = [add(runtime, b"x", user_metadata={"site": "quay"}), add(runtime, b"x")]
    with runtime.store.transaction() as tx:
        tx.execute(update(AudioSession).where(AudioSession.id == others[1]).values(user_id=None))
    admin.simulate_put(f"/v1/sessions/{bridge[0]}/hold")
    asked: dict[str, object] = {"metadata": {"site": "bridge"}}
    answers = [
        api.simulate_post("/v1/sessions/deletions", json=asked | {"dry_run": dry_run}).json
        for dry_run in (True, False, False)
    ]
    assert [(each["deleted"], each["left"], each["held"]) for each in answers] == [
        (0, 2, 1),
        (2, 0, 1),
        (0, 0, 1),
    ]
    stay = {str(each) for each in (bridge[0], *others)}
    shown = {each["id"] for each in admin.simulate_get("/v1/sessions").json["items"]}
    assert shown == stay
    # An empty filter would be everything.
    assert api.simulate_post("/v1/sessions/deletions", json={}).status_code == 400
    theirs = {"user_id": str(accounts.TEAM)}
    assert api.simulate_post("/v1/sessions/deletions", json=theirs).status_code == 403
    api.simulate_post("/v1/sessions/deletions", json={"created_to": "2100-01-01T00:00:00Z"})
    shown = {each["id"] for each in admin.simulate_get("/v1/sessions").json["items"]}
    assert shown == {str(bridge[0]), str(others[1])}


def test_the_command_deletes_page_by_page(
    runtime: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(deletions, "MOST_DELETED", 2)
    ids = [add(runtime, b"x") for _ in range(5)]
    client = Client("http://nowhere", key=accounts.KEY, transport=httpx.WSGITransport(api.app))
    assert cli_deletions.run_all(client, is_confirmed=False, states=["queued"]) == 0
    assert "5 sessions match" in capsys.readouterr().err
    assert cli_deletions.run_all(client, is_confirmed=True, states=["queued"]) == 0
    assert "5 of 5 sessions are deleted" in capsys.readouterr().err
    assert cli_deletions.run(client, ids[:1], only_audio=False) == 1
