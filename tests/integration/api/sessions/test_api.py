"""The HTTP API over a real database and a real blob store, without workers."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.facts import formats
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.queries.session_queries import NewDetectionRow
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from db.store import Store
from services.processes.server import free_port
from tests.support import recordings
from tests.support.api import Api, client_of

pytestmark = pytest.mark.integration

RECORDING = recordings.HEADER + bytes(range(256)) * 2_000


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, max_upload_bytes=1_000_000)


def post(api: Api, body: bytes = RECORDING, **options: Any) -> Any:
    headers = {"Content-Type": "audio/wav"} | options.pop("headers", {})
    return api.simulate_post("/v1/sessions", body=body, headers=headers, **options)


def assert_problem(result: Any, status: int, name: str) -> None:
    assert result.status_code == status
    assert result.headers["content-type"] == "application/problem+json"
    assert result.json["type"] == f"/problems/{name}"
    assert result.json["status"] == status
    assert result.json["title"]
    assert result.json["request_id"] == result.headers["x-request-id"]


def test_a_raw_body_is_stored_and_its_session_found(api: Api, runtime: Runtime) -> None:
    posted = post(api, query_string="file_name=..%2Fa%0Ab.wav")
    assert posted.status_code == 202
    location = posted.headers["location"]
    assert location == f"/v1/sessions/{posted.json['id']}"
    assert posted.json["file_name"] == "a b.wav"
    assert posted.json["size_bytes"] == len(RECORDING)
    assert api.simulate_get(location).json == posted.json
    assert runtime.blobs.get(recording_key(uuid.UUID(posted.json["id"]))) == RECORDING


def test_ids_sort_by_the_time_of_the_post(api: Api) -> None:
    headers: tuple[dict[str, str], ...] = ({}, {"Idempotency-Key": "a"}, {})
    ids = [uuid.UUID(post(api, headers=each).json["id"]) for each in headers]
    assert [each.version for each in ids] == [7, 7, 7]
    assert ids == sorted(ids)


def test_a_form_is_taken_too(api: Api, runtime: Runtime) -> None:
    boundary = "something-between"
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x/y.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        ).encode()
        + RECORDING
        + f"\r\n--{boundary}--\r\n".encode()
    )
    form = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    posted = post(api, body, headers=form)
    assert posted.status_code == 202
    assert posted.json["file_name"] == "y.wav"
    assert runtime.blobs.get(recording_key(uuid.UUID(posted.json["id"]))) == RECORDING
    without = body.replace(b'name="file"', b'name="fail"')
    assert_problem(post(api, without, headers=form), 400, "empty-upload")


def test_what_is_not_a_recording_is_refused_and_nothing_kept(api: Api, runtime: Runtime) -> None:
    assert_problem(post(api, b""), 400, "empty-upload")
    assert_problem(post(api, bytes(1_000_001)), 413, "upload-too-large")
    cut_off = {"Content-Type": "multipart/form-data; boundary=x"}
    assert post(api, b"--x\r\nnonsense", headers=cut_off).status_code == 400
    assert runtime.blobs.keys("sessions/") == []
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM audio_sessions")).scalar_one() == 0


@pytest.mark.parametrize(
    "media_type",
    [
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/plain",
        "text/json",
        "audio/mpeg; codecs=x",
        "",
        None,
    ],
)
def test_a_body_is_taken_by_its_first_bytes_whatever_its_media_type(
    api: Api, runtime: Runtime, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    posted = api.simulate_post("/v1/sessions", body=RECORDING, headers=headers)
    assert posted.status_code == 202, posted.text
    assert runtime.blobs.get(recording_key(uuid.UUID(posted.json["id"]))) == RECORDING
    looks_alike = (
        b'{"source_url": "https://recorder.example/a.wav"}',
        b"a=b",
        b"RIFF=1&WAVE=2",
        b"\xff",
        b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + RECORDING + b"\r\n--x--",
    )
    for body in looks_alike:
        refused = api.simulate_post("/v1/sessions", body=body, headers=headers)
        assert_problem(refused, 415, "unknown-format")
        assert all(name in refused.json["detail"] for name in formats.NAMES)
        # The answer names the media type of such a body.
        named = [
            kind for kind in ("application/json", "form-data") if kind in refused.json["detail"]
        ]
        assert named == {b"{": ["application/json"], b"-": ["form-data"]}.get(body[:1], [])
    assert len(runtime.blobs.keys("sessions/")) == 1


def test_json_is_read_as_json_whatever_it_begins_with(api: Api, runtime: Runtime) -> None:
    source = b'{"source_url": "https://127.0.0.1/a.wav"}'
    assert_problem(
        post(api, RECORDING, headers={"Content-Type": "application/json"}), 413, "body-too-large"
    )
    assert_problem(
        post(api, RECORDING[:1_000], headers={"Content-Type": "application/json"}),
        400,
        "invalid-body",
    )
    posted = post(api, source, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert_problem(posted, 400, "source-refused")
    assert runtime.blobs.keys("sessions/") == []


def test_a_form_of_unknown_length_is_cut_at_the_limit(api: Api, runtime: Runtime) -> None:
    def form(content: bytes) -> bytes:
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        return head + content + b"\r\n--x--\r\n"

    # What the server passes on for a chunked request: no length, and a stream that ends.
    chunked: dict[str, Any] = {
        "headers": {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": ""},
        "extras": {"wsgi.input_terminated": True},
    }
    assert_problem(
        post(api, form(recordings.HEADER + bytes(1_000_000)), **chunked), 413, "upload-too-large"
    )
    assert runtime.blobs.keys("sessions/") == []
    broken = form(RECORDING)[:-100]
    assert post(api, broken, **chunked).status_code == 400
    assert runtime.blobs.keys("sessions/") == []
    assert post(api, form(RECORDING), **chunked).json["size_bytes"] == len(RECORDING)


def test_a_raw_body_that_breaks_off_is_not_taken_for_a_recording(
    api: Api, runtime: Runtime
) -> None:
    short = post(api, headers={"Content-Length": str(len(RECORDING) + 1)})
    assert_problem(short, 400, "incomplete-upload")
    chunked = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    assert_problem(post(api, headers=chunked), 411, "length-required")
    assert runtime.blobs.keys("sessions/") == []


@pytest.mark.parametrize("accept", ["*/*", "text/xml", "application/xml", "image/png"])
def test_every_error_is_problem_json(api: Api, accept: str) -> None:
    headers = {"Accept": accept}
    nowhere = f"/v1/sessions/{uuid.uuid4()}"
    assert_problem(api.simulate_get("/v1/nothing", headers=headers), 404, "unknown-route")
    assert_problem(api.simulate_get("/v1/sessions/7", headers=headers), 404, "unknown-route")
    assert_problem(api.simulate_put("/v1/sessions", headers=headers), 405, "method-not-allowed")
    for path in (nowhere, f"{nowhere}/detections", f"{nowhere}/levels"):
        assert_problem(api.simulate_get(path, headers=headers), 404, "session-not-found")
    cancel = api.simulate_post(f"{nowhere}/cancel", headers=headers)
    assert_problem(cancel, 404, "session-not-found")


@pytest.mark.parametrize(
    "query",
    [
        "calibration_db=loud",
        "calibration_db=",
        "calibration_db=nan",
        "calibration_db=inf",
        "calibration_db=1e999",
        "calibration_db=251",
        "calibration_db=-101",
        "calibration_db=1_0",
        "calibration_db=1&calibration_db=2",
        "calibration_tone_db=100",
        "calibration_tone_db=",
        "bands=octave",
        "bands=",
        "priority=urgent",
        "priority=",
        "priority=0",
    ],
)
def test_an_option_that_is_no_such_value_is_named(api: Api, runtime: Runtime, query: str) -> None:
    refused = post(api, query_string=query)
    assert_problem(refused, 400, "invalid-parameter")
    assert query.partition("=")[0] in refused.json["detail"]
    assert runtime.blobs.keys("sessions/") == []


def test_options_are_kept_and_shown(api: Api) -> None:
    posted = post(api, query_string="calibration_db=%2B94.25&bands=third_octave&priority=high")
    assert posted.json["priority"] == "high"
    assert post(api).json["priority"] == "normal"
    assert posted.json["calibration_db"] == 94.25
    assert posted.json["bands"] == "third_octave"
    assert post(api, query_string="calibration_db=+94").json["calibration_db"] == 94
    assert post(api, query_string="calibration_db=-3.5").json["calibration_db"] == -3.5
    tone = post(api, query_string="calibration_tone_db=114").json
    assert (tone["calibration_tone_db"], tone["calibration_db"]) == (114, None)
    both = post(api, query_string="calibration_tone_db=114&calibration_db=94")
    assert_problem(both, 400, "invalid-parameter")


@pytest.mark.parametrize("is_first", [True, False])
def test_an_option_in_a_form_is_refused_rather_than_passed_over(
    api: Api, runtime: Runtime, is_first: bool
) -> None:
    fields = [
        b'Content-Disposition: form-data; name="calibration_db"\r\n\r\n94\r\n',
        b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + RECORDING + b"\r\n",
    ]
    parts = fields if is_first else fields[::-1]
    body = b"".join(b"--x\r\n" + part for part in parts) + b"--x--\r\n"
    refused = post(api, body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert_problem(refused, 400, "invalid-parameter")
    assert "calibration_db" in refused.json["detail"]
    assert runtime.blobs.keys("sessions/") == []


def test_levels_are_not_there_before_the_end(api: Api, runtime: Runtime) -> None:
    location = post(api).headers["location"]
    assert_problem(api.simulate_get(f"{location}/levels"), 409, "not-finished")
    api.simulate_post(f"{location}/cancel")
    assert_problem(api.simulate_get(f"{location}/levels"), 404, "no-levels")


def test_cancel_is_repeatable_and_refused_at_the_end(api: Api, runtime: Runtime) -> None:
    location = post(api).headers["location"]
    for _ in range(2):
        cancelled = api.simulate_post(f"{location}/cancel")
        assert cancelled.status_code == 200
        assert cancelled.json["state"] == "cancelled"
        assert cancelled.json["percent"] == 100
    other = post(api)
    work = SessionWork(session_id=uuid.UUID(other.json["id"]), state="queued")
    with runtime.store.transaction() as tx:
        assert claims.this(work, tx, lease_s=30)
        assert claims.advance(tx, work, attempt=1, to="failed")
    refused = api.simulate_post(f"{other.headers['location']}/cancel")
    assert_problem(refused, 409, "already-finished")


def test_detections_are_paged_in_order(api: Api, runtime: Runtime) -> None:
    session_id = uuid.UUID(post(api).json["id"])
    path = f"/v1/sessions/{session_id}/detections"
    assert api.simulate_get(path).json == {
        "items": [],
        "level_reference": "dBFS",
        "next_cursor": None,
    }
    events: list[NewDetectionRow] = [
        {
            "start_s": i,
            "end_s": i + 1,
            "noise_type": "rain",
            "confidence": 0.5,
            "laeq_db": -30.0,
            "lafmax_db": None,
            "candidates": [
                {"noise_type": "rain", "score": 0.5},
                {"noise_type": "wind", "score": 0.3},
            ],
        }
        for i in range(5)
    ]
    with runtime.store.transaction() as tx:
        session_queries.add_detections(tx, session_id, events)
    seen, cursor = [], ""
    for wanted in (2, 2, 1):
        page = api.simulate_get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        assert len(page.json["items"]) == wanted
        seen += page.json["items"]
        cursor = page.json["next_cursor"]
    assert cursor is None
    # Sessions processed before these levels were measured have no value for them.
    later = (
        "lae_db",
        "lasmax_db",
        "lcpeak_db",
        "background_la90_db",
        "emergence_db",
        "above_background_s",
        "overloaded",
        "third_octaves",
    )
    named = [{"id": each.pop("id"), "heard_at": each.pop("heard_at")} for each in seen]
    assert seen == [event | dict.fromkeys(later) for event in events]
    assert len({each["id"] for each in named}) == len(events)
    assert {each["heard_at"] for each in named} == {None}
    assert_problem(api.simulate_get(path, params={"cursor": "-1"}), 400, "invalid-parameter")
    assert api.simulate_get(path, params={"limit": "0"}).status_code == 400


def test_health(api: Api, runtime: Runtime) -> None:
    assert api.simulate_get("/health/live").json["status"] == "ok"
    assert api.simulate_get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE alembic_version SET version_num = 'b999'", None),
        ("UPDATE alembic_version SET version_num = '0025'", "from before the first release"),
        ("DELETE FROM alembic_version", "run clamor migrate"),
        ("DROP TABLE alembic_version", "run clamor migrate"),
    ],
)
def test_only_a_schema_that_is_too_old_makes_unready(
    api: Api, runtime: Runtime, change: str, reason: str | None
) -> None:
    """A later release's migrations leave a schema that this release can still use."""
    with runtime.store.transaction() as tx:
        tx.execute(text(change))
    answered = api.simulate_get("/health/ready")
    told = answered.json["checks"]["database"]
    if reason is None:
        assert (answered.status_code, told) == (200, "ok")
    else:
        assert answered.status_code == 503
        assert reason in told


def test_a_database_that_is_away_is_said_and_no_recording_is_left(runtime: Runtime) -> None:
    away = Store(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    api = client_of(runtime, store=away)
    assert_problem(post(api), 503, "store-unavailable")
    assert post(api).headers["retry-after"]
    assert api.simulate_get("/health/ready").status_code == 503
    assert api.simulate_get("/health/live").status_code == 200
    assert runtime.blobs.keys("sessions/") == []
