"""``clamor restore check``: what a restored database lacks, and the adoption of recordings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import CleanUp
from db import ownership
from db.blobs.keys import OWNER, product_key, recording_key, session_prefix
from db.queries import batch_queries, job_run_queries, session_queries
from db.queue import claims
from db.settings import Settings
from services.cli import main as cli
from tests.support import accounts, recorder_files, recordings, s3
from tests.support.api import Api
from tests.support.clock import ask, clean_up_twice
from tests.support.cluster import eventually
from tests.support.pipeline import add, put_into, run_to_the_end, session, work_of

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
TEAM = "team@example.org"
#: Runs the command with --json; returns the exit code and what it printed.
Check = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def check(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """The command over the worker's database and blobs; files are old at once."""
    for name in ("database_url", "amqp_url", "blob_url"):
        monkeypatch.setenv(name.upper(), getattr(runtime.settings, name))
    monkeypatch.setenv("CLAMOR_ORPHAN_S", "0.000001")

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()  # The worker's log.
        code = cli.main(["restore", "check", "--json", *arguments])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return run


def put(runtime: Runtime, name: str = "recording", content: bytes = DEMO) -> uuid.UUID:
    """Put a file into a folder without a row; return the folder's ID."""
    session_id = uuid.uuid4()
    runtime.blobs.put(f"{session_prefix(session_id)}{name}", content)
    return session_id


def forget(runtime: Runtime, session_id: uuid.UUID) -> None:
    """Remove the row of a session, as a restore of an older dump does."""
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM audio_sessions WHERE id = :id"), {"id": session_id})


def adopted(runtime: Runtime, check: Check, *arguments: str) -> int:
    code, found = check("--adopt", "--user", TEAM, *arguments)
    assert (code == 0) == (found["without_session"]["count"] == found["adopted"])
    return int(found["adopted"])


def test_adopting_is_no_restore(runtime: Runtime, check: Check) -> None:
    """Run each day, it would keep cleanup_failed_sessions from removing anything."""
    taken = ownership.take(runtime.store, runtime.blobs, is_restored=False)
    put(runtime)
    assert [adopted(runtime, check), adopted(runtime, check)] == [1, 0]
    assert ownership.of_blobs(runtime.blobs) == taken


def test_a_healthy_installation_agrees(runtime: Runtime, api: Api, check: Check) -> None:
    """Ended, failed and fetched sessions, and those whose recording was removed for privacy."""
    for values in ({}, {"privacy": "discard_audio"}):
        assert run_to_the_end(runtime, add(runtime, DEMO, **values)).state == "completed"
    add(runtime, DEMO)
    assert run_to_the_end(runtime, add(runtime, b"no recording")).state == "failed"
    gone = add(runtime, DEMO, privacy="discard_audio")
    run_to_the_end(runtime, gone)
    runtime.blobs.delete(recording_key(gone))
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=uuid.uuid4(),
            user_id=accounts.TEAM,
            file_name="a",
            recording_key="sessions/x/recording",
            source_url="https://example.org/a.flac",
        )
    code, found = check()
    assert (code, found["sessions"]) == (0, 6)
    assert found["adopted"] is found["refusal"] is None


def test_folders_of_other_names_are_not_those_of_sessions(runtime: Runtime, check: Check) -> None:
    """Their IDs can be read, but their files would not be removed with the sessions."""
    for name in (uuid.uuid4().hex, str(uuid.uuid4()).upper(), f"urn:uuid:{uuid.uuid4()}"):
        runtime.blobs.put(f"sessions/{name}/recording", DEMO)
    assert adopted(runtime, check) == 0


def test_sessions_without_their_recording_are_listed(runtime: Runtime, check: Check) -> None:
    unfinished = add(runtime, DEMO)
    ended = add(runtime, DEMO)
    run_to_the_end(runtime, ended)
    with runtime.store.transaction() as tx:
        put_into(tx, unfinished, "queued", finished_at=None)
    for session_id in (unfinished, ended):
        runtime.blobs.delete(recording_key(session_id))
    code, found = check()
    assert code == 1
    lost, without = found["unfinished_without_recording"], found["ended_without_recording"]
    assert (lost["count"], without["count"]) == (1, 1)
    assert lost["first"] == [
        {
            "session_id": str(unfinished),
            "key": recording_key(unfinished),
            "size_bytes": len(DEMO),
            "state": "queued",
        }
    ]
    assert without["first"][0]["state"] == "completed"
    assert found["without_session"]["count"] == 0


def test_recordings_without_a_row_become_sessions_of_the_named_user(
    runtime: Runtime, check: Check
) -> None:
    posted, fetched = put(runtime), put(runtime, "recording-3")
    products_only = put(runtime, "levels-1", b"levels")
    code, found = check("--limit", "1")
    assert (code, found["without_session"]["count"]) == (1, 2)
    assert found["without_session"]["size_bytes"] == 2 * len(DEMO)
    assert len(found["without_session"]["first"]) == 1
    assert adopted(runtime, check) == 2
    for session_id in (posted, fetched):
        row = session(runtime, session_id)
        assert (row.state, row.user_id) == ("queued", accounts.TEAM)
        assert work_of(runtime, session_id).lane == accounts.TEAM
        assert (row.file_name, row.size_bytes) == (str(session_id), len(DEMO))
    # A second run finds nothing to do.
    assert adopted(runtime, check) == 0
    assert check() == (0, check()[1])
    for session_id in (posted, fetched):
        done = run_to_the_end(runtime, session_id)
        assert (done.state, done.problem) == ("completed", None)
        assert runtime.blobs.get(done.recording_key) == DEMO
    assert f"{session_prefix(products_only)}levels-1" in runtime.blobs.keys("sessions/")


def test_a_time_in_the_file_is_found_as_for_an_upload(runtime: Runtime, check: Check) -> None:
    plain = recordings.encode(recordings.demo(), container="WAV")
    whole = plain + recorder_files.chunk(*recorder_files.guano("2024-07-02T06:44:04Z"))
    content = whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:]
    session_id = put(runtime, content=content)
    assert adopted(runtime, check) == 1
    done = run_to_the_end(runtime, session_id)
    assert (done.state, done.recorded_at_from) == ("completed", "guano")
    assert done.recorded_at == datetime(2024, 7, 2, 6, 44, 4, tzinfo=UTC)


def test_marks_of_adopted_recordings_are_dropped(runtime: Runtime, check: Check) -> None:
    session_id = put(runtime)
    runtime.blobs.put(f"{session_prefix(session_id)}levels-1", b"levels")
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    assert ask(runtime, CleanUp(), force=True).state == "completed"
    assert marks(runtime) == 2
    assert adopted(runtime, check) == 1
    assert marks(runtime) == 0
    assert clean_up_twice(runtime)["orphans"] == 0
    assert runtime.blobs.get(recording_key(session_id)) == DEMO


def test_nothing_is_adopted_while_files_may_be_removed(
    runtime: Runtime, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    """``clean_up`` may have read a mark that is dropped now."""
    session_id = put(runtime)
    with runtime.store.transaction() as tx:
        job_run_queries.add_run(tx, CleanUp.actor, session_queries.clock(tx), source="person")
        claim = job_run_queries.take_run(CleanUp.actor, tx, lease_s=60)
    assert claim is not None
    assert cli.main(["restore", "check", "--adopt", "--user", TEAM]) == cli.USAGE_ERROR
    assert "clean_up is running" in " ".join(capsys.readouterr().err.split())
    with runtime.store.transaction() as tx:
        assert claims.advance(tx, claim.work, attempt=claim.attempt, to="completed")
    assert adopted(runtime, check) == 1
    assert session(runtime, session_id).state == "queued"


def marks(runtime: Runtime) -> int:
    with runtime.store.transaction() as tx:
        return int(tx.execute(text("SELECT count(marked_at) FROM orphan_blobs")).scalar_one())


def test_a_copy_without_speech_is_adopted_before_its_original(
    runtime: Runtime, check: Check
) -> None:
    """Its session had ended, and the original was about to be removed."""
    session_id = put(runtime)
    muted = product_key(session_id, "muted", attempt=2)
    runtime.blobs.put(muted, DEMO)
    assert adopted(runtime, check) == 1
    assert session(runtime, session_id).recording_key == muted
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_privacy_is_that_of_the_command(runtime: Runtime, check: Check) -> None:
    session_id = put(runtime)
    assert adopted(runtime, check, "--privacy", "discard_audio") == 1
    assert run_to_the_end(runtime, session_id).served_key is None


def test_young_recordings_are_left_until_they_are_old(
    runtime: Runtime, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of an upload follows its file."""
    session_id = put(runtime)
    monkeypatch.setenv("CLAMOR_ORPHAN_S", "3600")
    code, found = check("--adopt", "--user", TEAM)
    assert (code, found["adopted"], found["young_without_session"]["count"]) == (1, 0, 1)
    monkeypatch.setenv("CLAMOR_ORPHAN_S", "0.000001")
    assert adopted(runtime, check) == 1
    assert session(runtime, session_id).state == "queued"


def test_recordings_of_an_open_batch_are_left_to_it(
    runtime: Runtime, api: Api, check: Check
) -> None:
    """Regression: the batch could not add its own session, and never ended."""
    runtime.blobs.put("inbox/a.flac", DEMO)
    for body in ({"keys": ["inbox/a.flac"]}, {"prefix": "inbox/"}):
        posted = api.simulate_post("/v1/batches", json=body)
        assert posted.status_code == 202, posted.text
        session_id = batch_queries.session_id_of(uuid.UUID(posted.json["id"]), 0)
        runtime.blobs.put(recording_key(session_id), DEMO)
    code, found = check("--adopt", "--user", TEAM)
    assert (code, found["adopted"], found["awaited_of_batches"]) == (0, 0, 2)
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_an_upload_that_is_not_copied_yet_is_no_missing_recording(
    runtime: Runtime, check: Check
) -> None:
    session_id = uuid.uuid4()
    key = f"uploads/{session_id}/{accounts.TEAM}"
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="a",
            recording_key=recording_key(session_id),
            source_key=key,
        )
    assert check()[1]["unfinished_without_recording"]["first"][0]["key"] == key
    # Copied before the restore, and removed from there.
    arrived = product_key(session_id, "recording", attempt=1)
    runtime.blobs.put(arrived, DEMO)
    assert check()[0] == 0
    runtime.blobs.delete(arrived)
    runtime.blobs.put(key, DEMO)
    assert check()[0] == 0
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_the_store_of_another_database_is_refused_until_it_is_taken_over(
    runtime: Runtime, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    put(runtime)
    ours = ownership.of_database(runtime.store)
    other = {"installation_id": str(ours.installation_id), "database": "1/2"}
    runtime.blobs.put(OWNER, json.dumps(other).encode())
    assert ownership.TAKE_OVER in check()[1]["refusal"]
    assert cli.main(["restore", "check", "--adopt", "--user", TEAM]) == cli.USAGE_ERROR
    assert ownership.TAKE_OVER in capsys.readouterr().err
    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    assert ask(runtime, CleanUp(), force=True).state == "completed"
    assert adopted(runtime, check) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--adopt",), "--user"),
        (("--adopt", "--user", "nobody@example.org"), "no such user"),
        (("--adopt", "--user", "name"), "neither an email address nor an ID"),
    ],
)
@pytest.mark.usefixtures("check")
def test_an_owner_is_needed(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert cli.main(["restore", "check", *arguments]) == cli.USAGE_ERROR
    assert said in capsys.readouterr().err


def test_it_is_shown_as_text_with_the_next_step(
    runtime: Runtime, check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id = put(runtime)
    lost = add(runtime, DEMO)
    runtime.blobs.delete(recording_key(lost))
    assert cli.main(["restore", "check"]) == 1
    out = capsys.readouterr().out
    for each in (recording_key(session_id), f"{recording_key(lost)}  (queued)", "--adopt --user"):
        assert each in out
    assert cli.main(["restore", "check", "--adopt", "--user", str(accounts.TEAM)]) == 1
    assert "Sessions added: 1." in capsys.readouterr().out


def test_a_bucket_is_compared_by_the_same_rules(
    memory_settings: Settings, monkeypatch: pytest.MonkeyPatch, runtime: Runtime, check: Check
) -> None:
    with s3.private_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{s3.BUCKET}/{uuid.uuid4()}"
        monkeypatch.setenv("BLOB_URL", url)
        in_bucket = Runtime(replace(memory_settings, blob_url=url), broker.setup(memory_settings))
        runtime.blobs = in_bucket.blobs
        in_bucket.close()
        session_id, lost = put(runtime), add(runtime, DEMO)
        add(runtime, DEMO)
        runtime.blobs.delete(recording_key(lost))
        code, found = check()
        assert code == 1
        assert found["unfinished_without_recording"]["count"] == 1
        assert found["without_session"]["count"] + found["young_without_session"]["count"] == 1
        # The bucket reports times in whole seconds.
        eventually(lambda: check("--adopt", "--user", TEAM)[1]["adopted"])
        assert session(runtime, session_id).state == "queued"
