"""Exports from request to file, over a real Postgres.

tests/unit/analytics/test_export_formats.py shows that each format is correct.
"""

from __future__ import annotations

import csv
import io
import itertools
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import falcon.testing
import httpx
import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from rich.console import Console
from sqlalchemy import text, update

from actors.analytics import detection_source, export
from actors.analytics.formats.csv_table import CsvTable
from actors.execution.runtime import Runtime
from actors.maintenance import retention
from actors.messaging.messages import CleanUp, CleanUpOldSessions, ExportSessionData, Nudge
from actors.recovery import nudge_for, take_stalled
from db.blobs import export_prefix
from db.queries import export_queries, session_queries
from db.tables.exports import EXPORT_FORMATS, Export
from db.tables.sessions import AudioSession
from services.cli import export_command
from services.client import Client
from tests.benchmarks import exports
from tests.support import accounts, pipeline, recordings
from tests.support.api import Api
from tests.support.clock import ask, clean_up_twice
from tests.support.pipeline import handle

pytestmark = pytest.mark.integration

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
    with runtime.store.transaction() as db:
        now = session_queries.clock(db)
        ended = {"state": state, "finished_at": now, "rate_hz": 44_100}
        db.execute(
            update(AudioSession).where(AudioSession.id == session_id).values(**(ended | values))
        )
        session_queries.add_detections(
            db,
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
    with runtime.store.transaction() as db:
        return export_queries.get_export(db, uuid.UUID(str(export_id)))


# --- contents ----------------------------------------------------------------------------------


def test_each_format_of_one_session_and_of_several(api: Api, runtime: Runtime) -> None:
    sound = recordings.encode(np.zeros(2 * recordings.RATE_HZ, np.float32))
    one, other = add(runtime, 0.0, 1.0, content=sound), add(runtime)
    kinds = {
        "csv": ("csv", "text/csv"),
        "ndjson": ("ndjson", "application/x-ndjson"),
        "parquet": ("parquet", "application/vnd.apache.parquet"),
        "audacity": ("txt", "text/plain"),
        "raven": ("selections.txt", "text/plain"),
        "dcase": ("txt", "text/plain"),
        "rttm": ("rttm", "text/plain"),
        "clips": ("zip", "application/zip"),
    }
    assert set(kinds) == set(EXPORT_FORMATS)
    for name, session_ids in itertools.product(kinds, ([one], [one, other])):
        done = made(api, runtime, format=name, session_ids=ids(*session_ids))
        assert (done["state"], done["rows_written"], done["percent"]) == ("completed", 2, 100)
        file = file_of(api, done)
        assert file.status_code == 200
        assert len(file.content) == done["size_bytes"]
        extension, media_type = kinds[name]
        if name in ("audacity", "raven") and len(session_ids) > 1:
            extension, media_type = "zip", "application/zip"
        assert file.headers["content-type"].partition(";")[0] == media_type
        said = f'attachment; filename="clamor-{done["id"]}.{extension}"'
        assert file.headers["content-disposition"] == said
        assert file.headers["content-length"] == str(done["size_bytes"])
        assert file.headers["x-content-type-options"] == "nosniff"
        if extension == "zip":
            with zipfile.ZipFile(io.BytesIO(file.content)) as found:
                assert found.testzip() is None
                assert len(found.namelist()) == (5 if name == "clips" else 2)


def test_an_archive_of_too_many_files_is_refused(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_FILES", 1)
    add(runtime, 1.0)
    assert made(api, runtime, format="raven")["state"] == "completed"
    add(runtime, 1.0)
    done = made(api, runtime, format="raven")
    assert (done["state"], done["problem"]["code"]) == ("failed", "too-many-files")
    assert made(api, runtime, format="rttm")["state"] == "completed"


def test_memory_does_not_grow_with_what_is_exported(database_url: str, tmp_path: Path) -> None:
    # `make bench-exports` measures a million detections; holding even this many would exceed the
    # bound.
    exports.fill(database_url, n_events=150_000)
    found = exports.measured(database_url, tmp_path, "parquet")
    assert found["rows"] == 150_000
    assert found["more_mb"] < 100


def test_events_come_in_pages_and_each_once(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_source, "PAGE_SESSIONS", 2)
    monkeypatch.setattr(detection_source, "PAGE_EVENTS", 3)
    wanted = []
    for n_events in (0, 2, 7, 3, 1, 1, 4, 0, 6):
        session_id = add(runtime, *map(float, range(n_events)))
        wanted += [(str(session_id), float(at)) for at in range(n_events)]
    done = made(api, runtime, format="parquet")
    assert done["rows_written"] == len(wanted)
    read = pyarrow.parquet.read_table(io.BytesIO(file_of(api, done).content))
    rows = zip(read.column("session_id"), read.column("start_s"), strict=True)
    assert [(one.as_py(), at.as_py()) for one, at in rows] == wanted


def test_a_selection_narrows_what_is_written(api: Api, runtime: Runtime) -> None:
    batch_id = uuid.uuid4()
    with runtime.store.transaction() as db:
        db.execute(
            text(
                "INSERT INTO batches (id, state, options, user_id) VALUES (:id, 'taken', '{}', :u)"
            ),
            {"id": batch_id, "u": accounts.TEAM},
        )
    old = add(runtime, 100.0, 400.0, created_at="2026-01-05T00:00:00Z")
    dog = add(runtime, 200.0, noise_type="dog_bark", batch_id=batch_id)
    failed = add(runtime, 300.0, state="failed")

    def seen(**asked: Any) -> set[tuple[str, str]]:
        rows = rows_of(api, made(api, runtime, **asked))
        return {(row["session_id"], row["start_s"]) for row in rows}

    of_old = {(str(old), "100.0"), (str(old), "400.0")}
    assert seen() == of_old | {(str(dog), "200.0")}
    assert seen(session_ids=ids(old)) == of_old
    assert seen(batch_id=str(batch_id)) == {(str(dog), "200.0")}
    assert seen(created_to="2026-01-06T00:00:00+01:00") == of_old
    assert seen(created_from="2026-01-06T00:00:00Z") == {(str(dog), "200.0")}
    assert seen(noise_types=["rain"]) == of_old
    assert seen(noise_types=["nature"]) == of_old | {(str(dog), "200.0")}
    assert seen(noise_types=["traffic"]) == set()
    assert seen(min_confidence=0.85) == {(str(old), "400.0")}
    assert seen(states=["failed"]) == {(str(failed), "300.0")}
    assert seen(batch_id=str(batch_id), noise_types=["rain"]) == set()


def test_a_group_stays_in_the_selection_as_it_was_asked_for(api: Api, runtime: Runtime) -> None:
    """The types below the groups outnumber the types that one export may name."""
    helicopter = add(runtime, 1.0, noise_type="helicopter")
    add(runtime, 2.0, noise_type="a_type_of_mine")
    groups = ["traffic", "human", "nature", "other"]
    done = made(api, runtime, noise_types=groups)
    assert done["selection"]["noise_types"] == groups
    (row,) = rows_of(api, done)
    assert row["session_id"] == str(helicopter)
    assert (row["noise_type"], row["group"], row["audioset_id"]) == (
        "helicopter",
        "traffic",
        "/m/09ct_",
    )


def test_clips_are_cut_of_what_is_stored(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate_hz = recordings.RATE_HZ
    samples = recordings.demo()[: 10 * rate_hz]
    session_id = add(runtime, 1.0, 9.8, content=recordings.encode(samples))
    gone = add(runtime, 3.0)
    with runtime.store.transaction() as db:
        row = session_queries.get_session(db, gone)
        assert row is not None
    runtime.blobs.delete(row.recording_key)
    broken = add(runtime, 4.0, content=b"no recording at all")
    done = made(api, runtime, format="clips")
    assert (done["state"], done["rows_written"]) == ("completed", 4), done["problem"]
    with zipfile.ZipFile(io.BytesIO(file_of(api, done).content)) as found:
        rows = list(csv.DictReader(io.TextIOWrapper(found.open("events.csv"), newline="")))
        assert [row["session_id"] for row in rows] == ids(session_id, session_id, gone, broken)
        assert [row["clip"] == "" for row in rows] == [False, False, True, True]
        heard, _ = soundfile.read(io.BytesIO(found.read(rows[0]["clip"])), dtype="float32")
        np.testing.assert_allclose(heard, samples[rate_hz // 2 : 2 * rate_hz], atol=1e-4)
        # The recording ends less than a second after the detection.
        last, _ = soundfile.read(io.BytesIO(found.read(rows[1]["clip"])))
        assert len(last) == len(samples) - round(9.3 * rate_hz)
    monkeypatch.setattr(export, "MOST_CLIPS", 3)
    done = made(api, runtime, format="clips")
    assert (done["state"], done["problem"]["code"]) == ("failed", "too-many-clips")
    refused = file_of(api, done)
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/export-not-done")
    assert "more than 3 events" in refused.json["detail"]
    assert done["id"] not in left(runtime)


def left(runtime: Runtime) -> list[str]:
    """Return the exports that have files."""
    return sorted({key.split("/")[1] for key in runtime.blobs.keys("exports/")})


# --- access ------------------------------------------------------------------------------------


def test_a_foreign_key_sees_nothing(api: Api, app: App, runtime: Runtime) -> None:
    stranger_id = uuid.uuid4()
    with runtime.store.transaction() as db:
        accounts.add_user(db, stranger_id, "stranger@example.org")
        key = accounts.add_key(db, stranger_id)
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
    with runtime.store.transaction() as db:
        lesser = accounts.client(app, accounts.add_key(db, accounts.ADMIN))
    of_all = made(admin, runtime)
    path = f"/v1/exports/{of_all['id']}"
    for method, each in (("GET", path), ("GET", f"{path}/file"), ("DELETE", path)):
        assert lesser.simulate_request(method, each).status_code == 404
    assert lesser.simulate_get("/v1/exports").json["items"] == []
    assert of_all in admin.simulate_get("/v1/exports").json["items"]


def test_whose_user_is_gone_is_of_nobody(api: Api, runtime: Runtime) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json
    with runtime.store.transaction() as db:
        db.execute(update(Export).values(user_id=None))
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
    with runtime.store.transaction() as db:
        db.execute(
            update(Export)
            .where(Export.id == uuid.UUID(str(export_id)))
            .values(expires_at=session_queries.clock(db))
        )


def test_an_export_can_be_removed(api: Api, runtime: Runtime) -> None:
    add(runtime, 1.0)
    done = made(api, runtime)
    assert api.simulate_delete(f"/v1/exports/{done['id']}").status_code == 204
    assert api.simulate_delete(f"/v1/exports/{done['id']}").status_code == 404
    assert left(runtime) == []


def test_exports_of_a_session_go_with_it(api: Api, runtime: Runtime) -> None:
    old, young = add(runtime, 1.0), add(runtime, 2.0)
    alone = made(api, runtime, session_ids=ids(old))
    both = made(api, runtime, session_ids=ids(old, young))
    with runtime.store.transaction() as db:
        db.execute(
            text("UPDATE audio_sessions SET finished_at = now() - interval '40 d' WHERE id = :id"),
            {"id": old},
        )
    result = ask(runtime, CleanUpOldSessions()).result
    assert result is not None
    assert result["sessions"] == 1
    assert get(runtime, alone["id"]) is None
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


# --- failures ----------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for the death of a process; nothing catches it."""


def test_a_worker_that_dies_in_between_is_followed_by_another(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0, 2.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json
    nudge = ExportSessionData(export_id=uuid.UUID(asked["id"]))

    def die(_self: CsvTable) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(CsvTable, "close", die)
        with pytest.raises(Died):
            handle(runtime, nudge)
    row = get(runtime, asked["id"])
    assert row is not None
    assert (row.state, row.attempt, row.blob_key) == ("pending", 1, None)
    # The first attempt's partial file belongs to no row.
    stale = f"{export_prefix(row.id)}1"
    runtime.blobs.put(stale, b"half a fi")
    handle(runtime, nudge)
    assert file_of(api, asked).status_code == 409
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE exports SET due_at = now(), nudged_at = now() - interval '1 h'"))
        found = take_stalled(db, quiet_s=0, limit=10)
    nudges: list[Nudge] = [nudge_for(work) for work in found]
    assert nudges == [nudge]
    handle(runtime, nudges[0])
    row = get(runtime, asked["id"])
    assert row is not None
    assert (row.state, row.blob_key) == ("completed", f"{export_prefix(row.id)}2")
    assert len(rows_of(api, asked)) == 2
    # The nightly clean-up removes the partial file but keeps the export's.
    runtime_now = replace(runtime.settings, orphan_s=1e-6)
    monkeypatch.setattr(runtime, "settings", runtime_now)
    assert stale in runtime.blobs.keys("exports/")
    clean_up_twice(runtime)
    assert runtime.blobs.keys("exports/") == [row.blob_key]


def test_what_is_removed_under_way_leaves_nothing(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json

    def removed(_self: CsvTable) -> None:
        assert api.simulate_delete(f"/v1/exports/{asked['id']}").status_code == 204

    monkeypatch.setattr(CsvTable, "close", removed)
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert get(runtime, asked["id"]) is None
    assert left(runtime) == []


def test_a_store_that_fails_is_tried_again(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, 1.0)
    asked = api.simulate_post("/v1/exports", json={"format": "csv"}).json

    def full(_self: CsvTable) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(CsvTable, "close", full)
        handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert left(runtime) == []
    with runtime.store.transaction() as db:
        db.execute(text("UPDATE exports SET due_at = now()"))
    handle(runtime, ExportSessionData(export_id=uuid.UUID(asked["id"])))
    assert len(rows_of(api, asked)) == 1


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    """Return the command's client, connected to the application without a server."""
    client = Client("http://clamor")
    client._http = httpx.Client(
        base_url="http://clamor", transport=httpx.WSGITransport(app), headers=accounts.bearer()
    )
    yield client
    client.close()


def test_the_command_waits_and_fetches(
    client: Client,
    runtime: Runtime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session_id = add(runtime, 1.0, 2.0)
    sent = client.export

    def worked(asked: Any) -> Any:
        export = sent(asked)
        handle(runtime, ExportSessionData(export_id=export.id))
        return export

    monkeypatch.setattr(client, "export", worked)
    said = io.StringIO()
    out = tmp_path / "out.selections.txt"

    def run(name: str, **narrowed: Any) -> int:
        return export_command.run(
            client,
            [session_id],
            format=name,
            narrowed=narrowed,
            out=out,
            bars=Console(file=said),
        )

    assert run("raven", min_confidence=None, noise_types=[]) == 0
    assert f"\n{out}: 2 events, " in capsys.readouterr().out
    assert out.read_text().count("\train\t") == 2
    assert "export raven: 100 %" in said.getvalue()
    whole = out.read_bytes()
    monkeypatch.setattr(export, "MOST_CLIPS", 1)
    assert run("clips") == 1
    assert "more than 1 events" in capsys.readouterr().err
    # The existing file is unchanged, and no other file is left.
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [out.name]
    assert out.read_bytes() == whole
