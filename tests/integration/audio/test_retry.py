"""Failed sessions, brought back to work over HTTP and by the command."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import DetectSpan, ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from db.queries import leftover_queries, retry_queries
from db.queue.claims import SessionWork, advance
from services.cli import main as cli
from services.cli.actions import retries
from services.client import Client
from tests.support import accounts, recordings
from tests.support.api import Api, App
from tests.support.pipeline import (
    add,
    age_ends,
    detections_of,
    handle,
    run_to_the_end,
    session,
    split,
    work_of,
)

pytestmark = pytest.mark.integration

SHORT = recordings.encode(recordings.demo())


def exhaust(runtime: Runtime, table: str) -> None:
    """Make the row look as if each of its attempts had killed a worker."""
    with runtime.store.transaction() as tx:
        tx.execute(
            text(f"UPDATE {table} SET attempt = :most, due_at = now(), last_error = 'OSError'"),  # noqa: S608
            {"most": runtime.settings.max_attempts},
        )


def given_up_at_once(runtime: Runtime) -> uuid.UUID:
    session_id = add(runtime, SHORT)
    exhaust(runtime, "unfinished_sessions")
    handle(runtime, ProcessAudioFile(session_id=session_id))
    return session_id


def given_up_while_decoded(runtime: Runtime) -> uuid.UUID:
    session_id = add(runtime, SHORT)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    exhaust(runtime, "unfinished_sessions")
    handle(runtime, SplitRecording(session_id=session_id))
    return session_id


def without_a_span(runtime: Runtime) -> uuid.UUID:
    session_id = split(runtime, SHORT)
    exhaust(runtime, "session_spans")
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    run_to_the_end(runtime, session_id)
    return session_id


def retry(api: Api, session_id: object) -> Any:
    return api.simulate_post(f"/v1/sessions/{session_id}/retry")


@pytest.mark.parametrize("give_up", [given_up_at_once, given_up_while_decoded, without_a_span])
def test_a_session_that_was_given_up_completes(
    runtime: Runtime, api: Api, give_up: Callable[[Runtime], uuid.UUID]
) -> None:
    session_id = give_up(runtime)
    assert session(runtime, session_id).state == "failed"
    # Its decoded audio is removed by now.
    Recovery(runtime).round()
    answered = retry(api, session_id)
    assert answered.status_code == 200
    shown = answered.json
    assert (shown["state"], shown["percent"], shown["problem"]) == ("queued", 0, None)
    assert (shown["finished_at"], shown["spans_total"]) == (None, 0)
    ended = run_to_the_end(runtime, session_id)
    assert (ended.state, ended.problem) == ("completed", None)
    undisturbed = add(runtime, SHORT)
    run_to_the_end(runtime, undisturbed)
    with runtime.store.transaction() as tx:
        heard, usual = (
            [(each.start_s, each.end_s, each.noise_type) for each in detections_of(tx, each_id)]
            for each_id in (session_id, undisturbed)
        )
        counted = tx.execute(text("SELECT sessions FROM usage_months")).scalar_one()
    assert heard == usual != []
    # Each recording counts once, however often it was decoded.
    assert counted == 2
    Recovery(runtime).round()
    kept = runtime.blobs.keys(f"sessions/{session_id}/")
    assert set(kept) == {
        ended.recording_key,
        ended.levels_key,
        ended.spectrogram_key,
        ended.levels_answer_key,
    }


def test_a_second_call_changes_nothing(runtime: Runtime, api: Api) -> None:
    session_id = given_up_at_once(runtime)
    retry(api, session_id)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    again = retry(api, session_id)
    assert (again.status_code, again.json["state"]) == (200, "splitting")


@pytest.mark.parametrize("content", [SHORT, b"this is no audio" * 100])
def test_what_was_not_given_up_is_not_retried(runtime: Runtime, api: Api, content: bytes) -> None:
    session_id = add(runtime, content)
    state = run_to_the_end(runtime, session_id).state
    refused = retry(api, session_id)
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/not-given-up")
    assert state in refused.json["detail"]
    assert session(runtime, session_id).state == state
    unknown = retry(api, uuid.uuid4())
    assert (unknown.status_code, unknown.json["type"]) == (404, "/problems/session-not-found")


def test_a_worker_of_before_cannot_write_for_a_retried_session(runtime: Runtime, api: Api) -> None:
    """A worker stalled since its claim finds its session in the same stage again."""
    session_id = given_up_while_decoded(runtime)
    retry(api, session_id)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    most = runtime.settings.max_attempts
    work = SessionWork(session_id=session_id, state="splitting")
    for attempt in range(1, most + 2):
        with runtime.store.transaction() as tx:
            assert not advance(tx, work, attempt=attempt, to="detecting")
    assert work_of(runtime, session_id).attempt > most
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_tidying_up_leaves_a_session_alone_that_is_retried_meanwhile(
    runtime: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = without_a_span(runtime)
    listed = runtime.blobs.keys

    def list_and_retry(prefix: str, **more: Any) -> list[str]:
        keys = listed(prefix, **more)
        retry(api, session_id)
        return keys

    before = listed(f"sessions/{session_id}/")
    monkeypatch.setattr(runtime.blobs, "keys", list_and_retry)
    Recovery(runtime).round()
    monkeypatch.undo()
    assert listed(f"sessions/{session_id}/") == before
    assert session(runtime, session_id).state == "queued"
    with runtime.store.transaction() as tx:
        leftover_queries.note_purged(tx, session_id, silent_after_s=0)
    assert work_of(runtime, session_id).state == "queued"


def test_the_command_retries_all_that_was_given_up(
    runtime: Runtime, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    given_up = given_up_at_once(runtime)
    broken = add(runtime, b"this is no audio" * 100)
    handle(runtime, ProcessAudioFile(session_id=broken))

    client = Client("http://nowhere", key=accounts.KEY, transport=httpx.WSGITransport(api.app))
    capsys.readouterr()
    assert retries.run_all(client, is_confirmed=False, which="given-up") == 0
    assert "1 sessions match" in capsys.readouterr().err
    assert session(runtime, given_up).state == "failed"
    assert retries.run_all(client, is_confirmed=True, which="given-up") == 0
    assert "1 of 1" in capsys.readouterr().err
    assert session(runtime, given_up).state == "queued"
    assert session(runtime, broken).state == "failed"
    named = cli.parser().parse_args(["sessions", "retry", str(broken), str(given_up)])
    assert retries.run(client, named.sessions) == 1
    printed = capsys.readouterr()
    assert str(broken) in printed.err
    assert str(given_up) in printed.out


def test_claims_begin_behind_all_of_before_and_stay_small(runtime: Runtime) -> None:
    session_id = given_up_at_once(runtime)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE processing_metrics SET attempt = 15999"))
        assert retry_queries.retry_session(tx, session_id)
    assert work_of(runtime, session_id).first_claim == 0


def test_the_command_wants_sessions_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sessions", "retry"]) == 2
    assert "--given-up" in capsys.readouterr().err


def retry_all(api: Api, **which: object) -> Any:
    return api.simulate_post("/v1/sessions/retry", json=which)


def test_failed_sessions_are_counted_and_retried_by_what_they_have_in_common(
    runtime: Runtime, api: Api, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.api.sessions.retries.MOST_RETRIED", 2)
    given_up = [given_up_at_once(runtime), given_up_while_decoded(runtime), without_a_span(runtime)]
    broken = add(runtime, b"this is no audio" * 100)
    handle(runtime, ProcessAudioFile(session_id=broken))
    with runtime.store.transaction() as tx:
        age_ends(tx, days=1, session_id=given_up[0])
    today = (datetime.now(UTC) - timedelta(hours=12)).isoformat()

    def left(client: Api, **which: object) -> int:
        answered = retry_all(client, **which, dry_run=True)
        assert answered.status_code == 200, answered.text
        assert answered.json["retried"] == 0
        return int(answered.json["left"])

    assert left(api, which="given-up") == 3
    assert left(admin, which="failed") == 4
    assert left(admin, which="failed", code="nothing-heard") == 1
    assert left(api, which="given-up", finished_from=today) == 2
    assert left(api, which="given-up", finished_to=today) == 1
    assert left(api, which="given-up", batch_id=str(uuid.uuid4())) == 0
    assert retry_all(api, which="failed").status_code == 403
    assert retry_all(api, which="any").status_code == 400
    # Those that ended first are first.
    assert retry_all(api, which="given-up").json == {"retried": 2, "left": 1}
    assert session(runtime, given_up[0]).state == "queued"
    assert retry_all(api, which="given-up").json == {"retried": 1, "left": 0}
    for session_id in given_up:
        assert run_to_the_end(runtime, session_id).state == "completed"
    assert session(runtime, broken).state == "failed"
    assert retry_all(admin, which="failed").json == {"retried": 1, "left": 0}
    assert session(runtime, broken).state == "queued"


def test_nobody_retries_the_sessions_of_others(runtime: Runtime, app: App) -> None:
    given_up_at_once(runtime)
    with runtime.store.transaction() as tx:
        key = accounts.add_key(tx, accounts.add_user(tx, uuid.uuid4(), "other@example.org"))
    other = accounts.client(app, key)
    assert retry_all(other, which="given-up").json == {"retried": 0, "left": 0}
