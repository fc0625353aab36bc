"""Recordings uploaded directly to a real S3 store, and the sessions created from them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile
from db.blobs.blob_store import Blobs
from db.blobs.keys import upload_key
from db.settings import Settings
from tests.support import accounts, recordings, s3
from tests.support.api import Api, client_of
from tests.support.clock import clean_up_twice
from tests.support.cluster import eventually
from tests.support.pipeline import handle, run_to_the_end, session

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
STRANGER = uuid.UUID("33333333-3333-4333-8333-333333333333")


@pytest.fixture(scope="module")
def bucket() -> Iterator[None]:
    with s3.private_s3() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def memory_settings(memory_settings: Settings, bucket: None) -> Settings:
    # A prefix for each test, since the module's tests share one server.
    url = f"s3://{s3.BUCKET}/{uuid.uuid4()}"
    return replace(memory_settings, blob_url=url, max_upload_bytes=1_000_000)


def put(api: Api, content: bytes = DEMO) -> Any:
    """Create an upload and put its bytes into the store."""
    made = api.simulate_post("/v1/uploads")
    assert made.status_code == 200, made.text
    _put_to(made.json, content)
    return made.json


def _put_to(upload: Any, content: bytes) -> None:
    sent = httpx.request(
        upload["method"], upload["url"], content=content, headers=upload["headers"], timeout=60
    )
    sent.raise_for_status()


def claim(api: Api, upload_id: str, **options: Any) -> Any:
    return api.simulate_post("/v1/sessions", json={"upload_id": upload_id}, **options)


def assert_problem(result: Any, status: int, name: str) -> None:
    assert (result.status_code, result.json["type"]) == (status, f"/problems/{name}")


def test_what_was_put_into_the_store_becomes_a_session(api: Api, runtime: Runtime) -> None:
    upload = put(api)
    expires_at = datetime.fromisoformat(upload["expires_at"])
    assert timedelta() < expires_at - datetime.now(UTC) <= timedelta(hours=1)
    claimed = claim(
        api, upload["upload_id"], query_string="file_name=street.flac&bands=third_octave"
    )
    assert claimed.status_code == 202
    told = {name: claimed.json[name] for name in ("state", "file_name", "bands", "size_bytes")}
    assert told == {
        "state": "queued",
        "file_name": "street.flac",
        "bands": "third_octave",
        "size_bytes": None,
    }
    # Repeated claims return the same session, before and after the recording is accepted.
    assert claim(api, upload["upload_id"]).json == claimed.json
    session_id = uuid.UUID(claimed.json["id"])
    handle(runtime, ProcessAudioFile(session_id=session_id))
    taken = session(runtime, session_id)
    assert (taken.state, taken.size_bytes) == ("splitting", len(DEMO))
    assert runtime.blobs.keys("uploads/") == []
    assert claim(api, upload["upload_id"]).json["id"] == claimed.json["id"]
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_an_address_is_good_for_one_upload_alone(api: Api, runtime: Runtime) -> None:
    upload = put(api)
    url, upload_id = upload["url"], upload["upload_id"]
    assert upload_id in url
    others = [url.partition("?")[0], url.replace(upload_id, str(uuid.uuid4()))]
    for method, each in [("GET", url), ("DELETE", url), *(("PUT", other) for other in others)]:
        assert httpx.request(method, each, timeout=60).status_code == 403
    assert len(runtime.blobs.keys("uploads/")) == 1


def test_what_is_put_there_later_changes_nothing(api: Api, runtime: Runtime) -> None:
    """The upload URL stays valid for an hour, whatever happens to the upload."""
    upload = put(api)
    session_id = uuid.UUID(claim(api, upload["upload_id"]).json["id"])
    handle(runtime, ProcessAudioFile(session_id=session_id))
    _put_to(upload, b"something else")
    assert runtime.blobs.get(session(runtime, session_id).recording_key) == DEMO


@pytest.mark.parametrize(
    ("content", "code"), [(bytes(1_000_001), "source-too-large"), (b"", "source-empty")]
)
def test_what_is_put_there_before_it_is_taken_is_looked_at_again(
    api: Api, runtime: Runtime, content: bytes, code: str
) -> None:
    upload = put(api)
    session_id = uuid.UUID(claim(api, upload["upload_id"]).json["id"])
    _put_to(upload, content)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    ended = session(runtime, session_id)
    assert ended.problem is not None
    assert ended.problem["code"] == code
    assert runtime.blobs.keys("sessions/") == []


def test_only_what_is_there_and_the_callers_own_becomes_a_session(
    api: Api, runtime: Runtime
) -> None:
    nothing = api.simulate_post("/v1/uploads").json["upload_id"]
    assert_problem(claim(api, nothing), 404, "upload-not-found")
    assert_problem(claim(api, str(uuid.uuid4())), 404, "upload-not-found")
    with runtime.store.transaction() as tx:
        accounts.add_user(tx, STRANGER, "stranger@example.org")
        keys = [accounts.add_key(tx, STRANGER), accounts.ADMIN_KEY]
    upload = put(api)["upload_id"]
    for key in keys:
        assert_problem(claim(api, upload, headers=accounts.bearer(key)), 404, "upload-not-found")
    assert claim(api, upload).status_code == 202
    for key in keys:
        assert_problem(claim(api, upload, headers=accounts.bearer(key)), 404, "upload-not-found")
    # A session created in another way is not an upload, although its ID may be sent as one.
    posted = api.simulate_post("/v1/sessions", body=DEMO, content_type="audio/flac").json["id"]
    assert_problem(claim(api, posted), 404, "upload-not-found")


def test_what_is_too_large_or_empty_or_no_recording_is_refused(api: Api, runtime: Runtime) -> None:
    large, empty, page = (put(api, each) for each in (bytes(1_000_001), b"", b"<html>"))
    assert_problem(claim(api, page["upload_id"]), 415, "unknown-format")
    assert_problem(claim(api, large["upload_id"]), 413, "upload-too-large")
    assert_problem(claim(api, empty["upload_id"]), 400, "empty-upload")
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM audio_sessions")).scalar_one() == 0


def test_what_nobody_claims_is_removed_once_it_is_old(api: Api, runtime: Runtime) -> None:
    forgotten, claimed, cancelled = (put(api)["upload_id"] for _ in range(3))
    for each in (claimed, cancelled):
        assert claim(api, each).status_code == 202
    assert api.simulate_post(f"/v1/sessions/{cancelled}/cancel").status_code == 200
    clean_up_twice(runtime)
    assert len(runtime.blobs.keys("uploads/")) == 3
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)

    def is_tidy() -> bool:
        # The store reports times in whole seconds.
        clean_up_twice(runtime)
        kept = [upload_key(uuid.UUID(claimed), accounts.TEAM)]
        return runtime.blobs.keys("uploads/") == kept

    eventually(is_tidy, what="the removal of what nobody needs")
    assert forgotten != claimed
    handle(runtime, ProcessAudioFile(session_id=uuid.UUID(claimed)))
    assert session(runtime, uuid.UUID(claimed)).state == "splitting"


def test_a_folder_has_no_addresses_and_says_what_to_do(
    runtime: Runtime, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("blobs").as_uri()
    settings = replace(runtime.settings, blob_url=folder)
    api = client_of(runtime, settings=settings, blobs=Blobs(folder))
    refused = api.simulate_post("/v1/uploads")
    assert_problem(refused, 409, "no-direct-uploads")
