"""Sessions created from a URL: recorded at once, then fetched by a worker despite any failure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from actors.execution.runtime import Runtime
from actors.messaging.messages import ProcessAudioFile
from actors.recovery import Recovery
from actors.training import recordings as clips
from actors.training.recordings import Wanted
from db.blobs.keys import product_key, recording_key
from db.queries import session_queries
from db.settings import Settings
from tests.support import recordings, web
from tests.support.api import Api
from tests.support.pipeline import handle, run_to_the_end, session, work_of
from tests.support.web import LOOPBACK, Request, Web

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
OTHER = recordings.encode(recordings.demo(seed=8))
#: Part of a URL's query; it must not be visible anywhere.
SECRET = "s3cr3t"


@pytest.fixture
def memory_settings(memory_settings: Settings) -> Settings:
    return replace(memory_settings, private_networks=LOOPBACK, max_upload_bytes=5_000_000)


@pytest.fixture
def site() -> Iterator[Web]:
    with web.serving() as served:
        served.pages["/audio/street.flac"] = lambda request: request.answer(DEMO)
        yield served


def post(api: Api, body: object, **options: Any) -> Any:
    return api.simulate_post("/v1/sessions", json=body, **options)


def of_url(api: Api, url: str) -> uuid.UUID:
    posted = post(api, {"source_url": url})
    assert posted.status_code == 202, posted.text
    return uuid.UUID(posted.json["id"])


def process(runtime: Runtime, session_id: uuid.UUID) -> None:
    handle(runtime, ProcessAudioFile(session_id=session_id))


def make_due(runtime: Runtime, session_id: uuid.UUID) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE unfinished_sessions SET due_at = now() WHERE session_id = :id"),
            {"id": session_id},
        )


def problem(runtime: Runtime, session_id: uuid.UUID) -> str | None:
    found = session(runtime, session_id)
    assert (found.state == "failed") == (found.problem is not None)
    return None if found.problem is None else str(found.problem["code"])


# --- the path of a recording -------------------------------------------------------------------


def test_an_address_is_written_down_fetched_and_listened_to(
    api: Api, runtime: Runtime, site: Web
) -> None:
    posted = post(
        api,
        {"source_url": site.url(f"/audio/street.flac?sig={SECRET}#t=1")},
        query_string="calibration_db=94&priority=high",
    )
    assert posted.status_code == 202
    assert posted.headers["location"] == f"/v1/sessions/{posted.json['id']}"
    told = {name: posted.json[name] for name in ("state", "size_bytes", "file_name", "source_url")}
    shown = site.url("/audio/street.flac")
    assert told == {
        "state": "queued",
        "size_bytes": None,
        "file_name": "street.flac",
        "source_url": shown,
    }
    assert posted.json["calibration_db"] == 94
    assert not site.asked
    early = api.simulate_get(f"{posted.headers['location']}/recording")
    assert (early.status_code, early.json["type"]) == (409, "/problems/not-finished")

    session_id = uuid.UUID(posted.json["id"])
    process(runtime, session_id)
    fetched = session(runtime, session_id)
    assert (fetched.state, fetched.size_bytes) == ("splitting", len(DEMO))
    assert runtime.blobs.get(fetched.recording_key) == DEMO
    assert fetched.source_url == shown
    assert api.simulate_get(f"{posted.headers['location']}/recording").content == DEMO
    assert len(site.asked) == 1
    assert site.asked[0].endswith(f"?sig={SECRET}")

    done = run_to_the_end(runtime, session_id)
    assert done.state == "completed"
    Recovery(runtime).round()
    assert done.recording_key in runtime.blobs.keys("sessions/")
    # Training may use it like any other recording.
    assert clips.read(runtime, [Wanted(session_id=session_id)]).samples[0].size


@pytest.mark.parametrize(
    ("given_name", "shown", "at"),
    [("", "20240702_064404.flac", "2024-07-02T06:44:04Z"), ("mine.flac", "mine.flac", None)],
)
def test_a_server_may_name_what_it_sends(
    api: Api, runtime: Runtime, site: Web, given_name: str, shown: str, at: str | None
) -> None:
    disposition = 'attachment; filename="20240702_064404.flac"'
    site.pages["/download"] = lambda request: request.answer(DEMO, Content_Disposition=disposition)
    query = f"file_name={given_name}" if given_name else ""
    posted = post(api, {"source_url": site.url("/download")}, query_string=query)
    assert posted.json["file_name"] == (given_name or "download")
    process(runtime, uuid.UUID(posted.json["id"]))
    found = api.simulate_get(posted.headers["location"]).json
    assert (found["file_name"], found["recorded_at"]) == (shown, at)


def test_a_name_of_the_callers_own_is_taken(api: Api, site: Web) -> None:
    posted = post(api, {"source_url": site.url("/")}, query_string="file_name=x%2Fmine.wav")
    assert posted.json["file_name"] == "mine.wav"
    assert post(api, {"source_url": site.url("/")}).json["file_name"] == "recording"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "street.wav",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "http://10.0.0.1/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://2130706433/",
        f"http://user:{SECRET}@example.org/a",
        "http://example.org:22/",
    ],
)
def test_what_can_never_be_fetched_is_refused_at_once(api: Api, runtime: Runtime, url: str) -> None:
    refused = post(api, {"source_url": url})
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/source-refused")
    assert [each["field"] for each in refused.json["errors"]] == ["source_url"]
    assert SECRET not in refused.text
    with runtime.store.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM audio_sessions")).scalar_one() == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        7,
        {"source_url": 7},
        {"source_url": "https://a.example/", "file": "x"},
        {"upload_id": "7"},
        {"source_url": None},
        {"source_url": "https://a.example/", "upload_id": str(uuid.uuid4())},
    ],
)
def test_a_body_that_names_no_recording_is_refused(api: Api, body: object) -> None:
    refused = post(api, body)
    assert (refused.status_code, refused.json["type"]) == (400, "/problems/invalid-body")


# --- permanent failures ------------------------------------------------------------------------


def drip(request: Request) -> None:
    request.raw(b"HTTP/1.1 200 OK\r\n\r\n" + DEMO[:100])
    while not request.web.ends.wait(0.02):
        request.raw(b"x")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/nothing", "source-not-found"),
        ("/gone", "source-not-found"),
        ("/forbidden", "source-rejected"),
        ("/zipped", "source-rejected"),
        ("/inside", "source-refused"),
        ("/circle", "source-refused"),
        ("/large", "source-too-large"),
        ("/empty", "source-empty"),
        ("/page", "unknown-format"),
    ],
)
def test_a_failure_for_good_ends_the_session_with_its_reason(
    api: Api, runtime: Runtime, site: Web, path: str, code: str
) -> None:
    site.pages |= {
        "/gone": lambda request: request.answer(status=410),
        "/forbidden": lambda request: request.answer(status=403),
        "/zipped": lambda request: request.answer(b"x", Content_Encoding="gzip"),
        "/inside": lambda request: request.answer(status=302, Location="http://10.0.0.1/"),
        "/circle": lambda request: request.answer(status=302, Location="/circle"),
        "/large": lambda request: request.answer(DEMO + bytes(5_000_000)),
        "/empty": lambda request: request.answer(),
        # Recognised by its first bytes, before it is too large.
        "/page": lambda request: request.raw(
            b"HTTP/1.1 200 OK\r\n\r\n<html>log in first", *[bytes(1_000_000)] * 1_000
        ),
    }
    session_id = of_url(api, site.url(f"{path}?sig={SECRET}"))
    process(runtime, session_id)
    assert problem(runtime, session_id) == code
    assert SECRET not in str(session(runtime, session_id).problem)
    assert runtime.blobs.keys("sessions/") == []


def test_a_server_that_drips_has_its_time_and_no_more(
    api: Api, runtime: Runtime, site: Web
) -> None:
    site.pages["/drip"] = drip
    session_id = of_url(api, site.url("/drip"))
    runtime.settings = replace(runtime.settings, deadline_s=1.0)
    process(runtime, session_id)
    assert problem(runtime, session_id) == "source-too-slow"
    assert runtime.blobs.keys("sessions/") == []


# --- temporary failures ------------------------------------------------------------------------


def test_a_failure_that_may_pass_is_tried_again_later(
    api: Api, runtime: Runtime, site: Web
) -> None:
    answers: list[Callable[[Request], object]] = [
        lambda request: request.answer(status=503),
        lambda request: request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nfLaC"),
        lambda request: request.answer(DEMO),
    ]

    def answer(request: Request) -> None:
        answers.pop(0)(request)

    site.pages["/"] = answer
    session_id = of_url(api, site.url(f"/?sig={SECRET}"))
    for reason in ("503", "incomplete"):
        process(runtime, session_id)
        waiting = session(runtime, session_id)
        assert waiting.state == "queued"
        assert reason in str(work_of(runtime, session_id).last_error)
        assert waiting.source_url == site.url(f"/?sig={SECRET}")
        assert runtime.blobs.keys("sessions/") == []
        # It is not due yet.
        process(runtime, session_id)
        make_due(runtime, session_id)
    assert len(site.asked) == 2
    process(runtime, session_id)
    assert session(runtime, session_id).state == "splitting"


def test_what_does_not_pass_is_given_up_and_says_why(api: Api, runtime: Runtime, site: Web) -> None:
    site.pages["/"] = lambda request: request.answer(status=500)
    session_id = of_url(api, site.url("/"))
    for _ in range(runtime.settings.max_attempts):
        process(runtime, session_id)
        make_due(runtime, session_id)
    ended = session(runtime, session_id)
    assert ended.problem is not None
    assert ended.problem["code"] == "given-up"
    assert "500" in ended.problem["detail"]


@pytest.mark.parametrize("is_written", [True, False])
def test_a_commit_that_was_not_answered_loses_nothing(
    api: Api,
    runtime: Runtime,
    site: Web,
    monkeypatch: pytest.MonkeyPatch,
    is_written: bool,
) -> None:
    """As when the worker dies there: what has arrived is not fetched again."""
    note = session_queries.note_brought

    def broken(tx: Any, *given: Any, **values: Any) -> bool:
        if is_written:
            assert note(tx, *given, **values)
            tx.commit()
        raise OperationalError("gone", None, Exception("gone"))

    session_id = of_url(api, site.url("/audio/street.flac"))
    with monkeypatch.context() as patched:
        patched.setattr(session_queries, "note_brought", broken)
        process(runtime, session_id)
    assert session(runtime, session_id).state == "queued"
    make_due(runtime, session_id)
    process(runtime, session_id)
    assert session(runtime, session_id).state == "splitting"
    assert len(site.asked) == 1
    done = run_to_the_end(runtime, session_id)
    assert done.state == "completed"
    Recovery(runtime).round()
    kept = {done.recording_key, done.levels_key, done.levels_answer_key}
    assert kept <= set(runtime.blobs.keys("sessions/"))
    assert len([key for key in runtime.blobs.keys("sessions/") if "/recording" in key]) == 1


def test_a_zombie_puts_nothing_in_the_place_of_its_successors_recording(
    api: Api, runtime: Runtime, site: Web
) -> None:
    """While the first worker still fetches, another claims the row and fetches something else."""

    def answer(request: Request) -> None:
        if len(site.asked) == 1:
            make_due(runtime, session_id)
            process(runtime, session_id)
            request.answer(OTHER)
        else:
            request.answer(DEMO)

    site.pages["/"] = answer
    session_id = of_url(api, site.url("/"))
    process(runtime, session_id)
    found = session(runtime, session_id)
    assert (found.state, found.size_bytes) == ("splitting", len(DEMO))
    assert runtime.blobs.keys("sessions/") == [found.recording_key]
    assert runtime.blobs.get(found.recording_key) == DEMO


# --- the recording is there, but the row does not know it ---------------------------------------


@pytest.mark.parametrize("number", [1, 3])
def test_what_arrived_before_a_restore_is_used_where_the_source_is_gone(
    api: Api, runtime: Runtime, site: Web, number: int
) -> None:
    """The dump is older than the fetch. Its attempt may have the number of that of before."""
    site.pages["/"] = lambda request: request.answer(status=404)
    session_id = of_url(api, site.url("/"))
    arrived = product_key(session_id, "recording", attempt=number)
    runtime.blobs.put(arrived, DEMO)
    process(runtime, session_id)
    found = session(runtime, session_id)
    assert (found.state, found.size_bytes) == ("splitting", len(DEMO))
    assert runtime.blobs.get(found.recording_key) == DEMO
    assert site.asked == []
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_an_attempt_that_fails_does_not_remove_what_arrived_before_a_restore(
    api: Api, runtime: Runtime, site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the new attempt took the blob of the same number for its own output."""
    site.pages["/"] = lambda request: request.answer(status=404)
    session_id = of_url(api, site.url("/"))
    arrived = product_key(session_id, "recording", attempt=1)
    runtime.blobs.put(arrived, DEMO)

    def away(*_given: Any, **_values: Any) -> bool:
        raise OperationalError("gone", None, Exception("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(session_queries, "note_brought", away)
        process(runtime, session_id)
    assert runtime.blobs.get(arrived) == DEMO
    # Nor does a worker that has lost its claim.
    make_due(runtime, session_id)
    with monkeypatch.context() as patched:
        patched.setattr(session_queries, "note_brought", lambda *_given, **_values: False)
        process(runtime, session_id)
    assert runtime.blobs.get(arrived) == DEMO


def test_what_another_worker_removes_meanwhile_is_fetched(
    api: Api, runtime: Runtime, site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = of_url(api, site.url("/audio/street.flac"))
    arrived = product_key(session_id, "recording", attempt=7)
    runtime.blobs.put(arrived, OTHER)
    copy = runtime.blobs.copy

    def late(source: str, to: str) -> None:
        runtime.blobs.delete(arrived)
        copy(source, to)

    monkeypatch.setattr(runtime.blobs, "copy", late)
    process(runtime, session_id)
    found = session(runtime, session_id)
    assert (found.state, found.size_bytes) == ("splitting", len(DEMO))


def test_a_cancel_ends_a_fetch(api: Api, runtime: Runtime, site: Web) -> None:
    def answer(request: Request) -> None:
        api.simulate_post(f"/v1/sessions/{session_id}/cancel")
        drip(request)

    site.pages["/"] = answer
    session_id = of_url(api, site.url("/"))
    process(runtime, session_id)
    assert session(runtime, session_id).state == "cancelled"
    assert runtime.blobs.keys("sessions/") == []


# --- secrets -----------------------------------------------------------------------------------


def test_the_query_of_an_address_is_seen_nowhere_and_not_kept(
    api: Api,
    runtime: Runtime,
    site: Web,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither shown nor logged; when the session ends, the row drops it too."""
    caplog.set_level("INFO")
    site.pages["/broken"] = lambda request: request.raw(b"")
    ids = [of_url(api, site.url(f"{path}?sig={SECRET}")) for path in ("/nothing", "/broken")]
    for _ in ids:
        handle(runtime, ProcessAudioFile(session_id=ids[0]))
    for session_id in ids:
        shown = api.simulate_get(f"/v1/sessions/{session_id}")
        assert shown.json["source_url"].startswith("http://127.0.0.1")
        assert SECRET not in shown.text
    api.simulate_post(f"/v1/sessions/{ids[1]}/cancel")
    told = capfd.readouterr()
    assert "actor_run" in told.out + told.err + caplog.text
    assert SECRET not in told.out + told.err + caplog.text
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE session_leftovers SET finished_at = now() - interval '1 day'"))
    Recovery(runtime).round()
    with runtime.store.transaction() as tx:
        rows = tx.scalars(text("SELECT s::text FROM audio_sessions s")).all()
    assert len(rows) == 2
    assert not any(SECRET in row for row in rows)
    assert all("http://127.0.0.1" in row for row in rows)


def test_nothing_is_fetched_twice_by_a_message_that_comes_twice(
    api: Api, runtime: Runtime, site: Web, memory: StubBroker
) -> None:
    session_id = of_url(api, site.url("/audio/street.flac"))
    for _ in range(3):
        process(runtime, session_id)
    assert len(site.asked) == 1
    assert recording_key(session_id) not in runtime.blobs.keys("sessions/")
