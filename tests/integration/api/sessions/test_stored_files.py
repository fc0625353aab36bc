"""Every endpoint that reads or writes blobs: with the store away, and with the client's copy."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import GenerateDailyReport
from db.blobs.keys import export_prefix, training_prefix
from db.queries import export_queries, model_queries, report_queries
from tests.support import accounts, labelled, outages, recordings
from tests.support.api import Api
from tests.support.pipeline import add, handle, run_to_the_end

pytestmark = pytest.mark.integration

SHORT = recordings.encode(recordings.demo())


def add_model(runtime: Runtime) -> uuid.UUID:
    """Add a trained model with its file and its confusion matrix."""
    data = b"a model"
    prefix = training_prefix(uuid.uuid4())
    runtime.blobs.put(f"{prefix}model-1", data)
    runtime.blobs.put(f"{prefix}confusion-1.png", b"\x89PNG")
    with runtime.store.transaction() as tx:
        return model_queries.register_model(
            tx,
            name="m",
            version="1",
            sha256=hashlib.sha256(data).hexdigest(),
            header={"classes": ["a"]},
            user_id=accounts.TEAM,
            blob_key=f"{prefix}model-1",
            confusion_key=f"{prefix}confusion-1.png",
        )


def add_export(runtime: Runtime) -> uuid.UUID:
    export_id = uuid.uuid4()
    key = f"{export_prefix(export_id)}1"
    runtime.blobs.put(key, b"rows")
    with runtime.store.transaction() as tx:
        export_queries.add_export(
            tx,
            id=export_id,
            user_id=accounts.TEAM,
            format="csv",
            selection={},
            expires_at=datetime.now(UTC) + timedelta(days=1),
        )
        tx.execute(
            text("UPDATE exports SET state = 'completed', blob_key = :key, size_bytes = 4"),
            {"key": key},
        )
    return export_id


def add_report(runtime: Runtime) -> uuid.UUID:
    with runtime.store.transaction() as tx:
        report_id = report_queries.ask_for_report(
            tx,
            id=uuid.uuid4(),
            day=date(2026, 3, 14),
            time_zone="UTC",
            user_id=accounts.TEAM,
            starts_at=datetime(2026, 3, 14, tzinfo=UTC),
            ends_at=datetime(2026, 3, 15, tzinfo=UTC),
        )
    handle(runtime, GenerateDailyReport(report_id=report_id))
    return report_id


@pytest.fixture
def reads(runtime: Runtime) -> dict[str, str]:
    """Return the path of every route that reads the blob store."""
    session_id = add(runtime, SHORT)
    assert run_to_the_end(runtime, session_id).state == "completed"
    model_id, export_id, report_id = add_model(runtime), add_export(runtime), add_report(runtime)
    return {
        "levels": f"/v1/sessions/{session_id}/levels",
        "recording": f"/v1/sessions/{session_id}/recording",
        "spectrogram": f"/v1/sessions/{session_id}/spectrogram.png",
        "model": f"/v1/models/{model_id}/file",
        "confusion": f"/v1/models/{model_id}/confusion.png",
        "export": f"/v1/exports/{export_id}/file",
        "report": f"/v1/reports/{report_id}/html",
    }


def assert_away(answered: Any, what: str) -> None:
    assert answered.status_code == 503, (what, answered.text)
    assert answered.json["type"] == "/problems/store-unavailable", what
    assert answered.headers["retry-after"], what
    assert "etag" not in answered.headers, what


def test_what_cannot_be_read_is_asked_for_again_later(
    runtime: Runtime, api: Api, reads: dict[str, str]
) -> None:
    with outages.away(runtime.settings.blob_url):
        for what, path in reads.items():
            assert_away(api.simulate_get(path), what)
        promote = reads["model"].replace("/file", "/promote")
        admin = accounts.client(api.app, accounts.ADMIN_KEY)
        assert_away(admin.simulate_post(promote, json={}), "promote")
    for what, path in reads.items():
        assert api.simulate_get(path).status_code == 200, what


def test_what_cannot_be_written_is_sent_again_later(runtime: Runtime, api: Api) -> None:
    manifest, files = labelled.clips(each=2)
    clips, of_clips = labelled.form({"manifest": manifest}, files)
    model, of_model = labelled.form({}, {}, model=b"model")
    with outages.away(runtime.settings.blob_url):
        audio = {"Content-Type": "audio/flac"}
        posted = api.simulate_post("/v1/sessions", body=SHORT, headers=audio)
        assert_away(posted, "session")
        assert_away(api.simulate_post("/v1/models", body=clips, headers=of_clips), "training")
        posted = api.simulate_post("/v1/validations", body=model, headers=of_model)
        assert_away(posted, "validation")
    with runtime.store.transaction() as tx:
        for table in ("audio_sessions", "training_jobs", "validations"):
            assert tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0  # noqa: S608


def test_what_is_no_recording_does_not_reach_the_store(runtime: Runtime, api: Api) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    with outages.away(runtime.settings.blob_url):
        for content, status in ((b"", 400), (b"no recording at all", 415)):
            body = part % content + b"--x--\r\n"
            assert api.simulate_post("/v1/sessions", body=content).status_code == status
            assert api.simulate_post("/v1/sessions", body=body, headers=form).status_code == status
            batch = api.simulate_post("/v1/batches", body=body, headers=form).json
            assert batch["files"] == {"refused": 1}
            [item] = api.simulate_get(f"/v1/batches/{batch['id']}/items").json["items"]
            assert "could not be stored" not in item["reason"]


@pytest.mark.parametrize("what", ["recording", "spectrogram", "model", "confusion"])
def test_a_caller_that_has_it_is_not_sent_it_again(
    runtime: Runtime, api: Api, reads: dict[str, str], what: str
) -> None:
    whole = api.simulate_get(reads[what])
    assert whole.headers["cache-control"] == "private, no-cache"
    known = {"If-None-Match": whole.headers["etag"]}
    with outages.away(runtime.settings.blob_url):
        # Nothing is read from the store.
        again = api.simulate_get(reads[what], headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == whole.headers["etag"]
    other = api.simulate_get(reads[what], headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
