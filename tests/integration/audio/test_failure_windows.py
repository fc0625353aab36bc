"""What happens to a recording when something fails at the worst moment.

Each test is one row of the table in docs/reliability.md.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dramatiq.brokers.stub import StubBroker
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging.messages import (
    AggregateSession,
    DetectSpan,
    Nudge,
    ProcessAudioFile,
    SplitRecording,
)
from actors.recovery import Recovery, take_stalled
from db.blobs.keys import OWNER, recording_key, training_prefix, validation_prefix
from db.queries import model_queries
from db.queries.model_queries import NewTrainingClipRow
from db.queue.claims import SessionWork
from db.settings import Settings
from db.tables.sessions import AudioSession
from tests.support import labelled, recordings
from tests.support.api import Api
from tests.support.clock import clean_up_twice
from tests.support.cluster import eventually
from tests.support.pipeline import add, detections_of, handle, work_of
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy

pytestmark = pytest.mark.integration


@pytest.fixture
def cable(database_url: str) -> Iterator[PostgresProxy]:
    """The connection between Clamor and Postgres."""
    with postgres_proxy(database_url) as made:
        yield made


@pytest.fixture
def memory_settings(memory_settings: Settings, cable: PostgresProxy) -> Settings:
    """Settings of a worker, and of an API, whose connection to Postgres can be cut."""
    return replace(memory_settings, database_url=cable.url, lease_s=1.0)


@pytest.fixture
def other(memory_settings: Settings, database_url: str, memory: StubBroker) -> Iterator[Runtime]:
    """Another worker, with its own connection."""
    settings = replace(memory_settings, database_url=database_url, lease_s=5.0)
    runtime = Runtime(settings, memory)
    yield runtime
    runtime.close()


DEMO = recordings.encode(recordings.demo())


def post(api: Api) -> Any:
    headers = {"Content-Type": "application/octet-stream"}
    return api.simulate_post("/v1/sessions", body=DEMO, headers=headers)


def run_to_the_end(runtime: Runtime) -> list[AudioSession]:
    """Handle the rows' nudges until every session has ended; return all sessions, oldest first."""

    def ended() -> list[AudioSession] | None:
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=100)
        for nudge in found:
            handle(runtime, nudge)
        rows = sessions(runtime)
        return rows if all(row.finished_at for row in rows) else None

    return eventually(ended, timeout_s=120, what="the end of every session")


def sessions(runtime: Runtime) -> list[AudioSession]:
    with runtime.store.transaction() as tx:
        return list(tx.query(AudioSession).order_by(AudioSession.created_at))


def runs(runtime: Runtime) -> Counter[tuple[str, str]]:
    """Count the runs by step and result."""
    with runtime.store.transaction() as tx:
        rows = tx.execute(text("SELECT step, result FROM processing_metrics"))
        return Counter((step, result) for step, result in rows)


def stored(runtime: Runtime) -> set[str]:
    return set(runtime.blobs.keys("sessions/"))


# --- the upload --------------------------------------------------------------------------------


def test_a_post_whose_commit_was_not_answered_keeps_its_recording(
    api: Api, other: Runtime, cable: PostgresProxy
) -> None:
    """The row exists although the API got no confirmation, so its recording must exist too."""
    cable.lose_commit(after="INSERT INTO audio_sessions")
    assert post(api).status_code == 503
    assert cable.lost.is_set()
    [session] = run_to_the_end(other)
    assert session.state == "completed"


def test_a_batch_in_which_a_commit_was_not_answered_keeps_that_recording(
    api: Api, other: Runtime, cable: PostgresProxy
) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    cable.lose_commit(after="INSERT INTO audio_sessions")
    assert (
        api.simulate_post(
            "/v1/batches", body=form + DEMO + b"\r\n--x--\r\n", headers=headers
        ).status_code
        == 503
    )
    assert cable.lost.is_set()
    [session] = run_to_the_end(other)
    assert session.state == "completed"


def test_a_training_whose_commit_was_not_answered_keeps_its_clips(
    api: Api, other: Runtime, cable: PostgresProxy
) -> None:
    body, headers = labelled.form({"manifest": "file,label\na.flac,x"}, {"a.flac": DEMO})
    cable.lose_commit(after="INSERT INTO training_clips")
    assert api.simulate_post("/v1/models", body=body, headers=headers).status_code == 503
    assert cable.lost.is_set()
    with other.store.transaction() as tx:
        [key] = tx.scalars(text("SELECT blob_key FROM training_clips"))
    assert other.blobs.get(key) == DEMO


def test_a_post_while_postgres_is_away_leaves_nothing(
    api: Api, other: Runtime, cable: PostgresProxy
) -> None:
    cable.cut()
    refused = post(api)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert stored(other) == set()
    cable.mend()
    assert post(api).status_code == 202
    assert [session.state for session in run_to_the_end(other)] == ["completed"]


def test_a_post_while_the_blob_store_is_away_is_told_to_come_again(
    api: Api, other: Runtime, tmp_path: Path
) -> None:
    folder, away = tmp_path / "blobs", tmp_path / "away"
    folder.rename(away)
    folder.touch()
    refused = post(api)
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert str(tmp_path) not in refused.text
    folder.unlink()
    away.rename(folder)
    assert sessions(other) == []
    assert post(api).status_code == 202


def test_a_recording_without_a_row_is_removed_once_it_is_old(
    runtime: Runtime, tmp_path: Path
) -> None:
    """An API that dies between the two leaves such a recording; the row of a young one may be about
    to come.
    """
    orphan = uuid.uuid4()
    kept = add(runtime, DEMO)
    runtime.blobs.put(recording_key(orphan), DEMO)
    # What a killed writer leaves.
    half = tmp_path / "blobs" / f"{recording_key(orphan)}#1"
    half.write_bytes(DEMO[:1_000])
    strange = "sessions/not-an-id/recording"
    runtime.blobs.put(strange, b"somebody else's")
    clean_up_twice(runtime)
    assert len(stored(runtime)) == 3
    assert half.exists()

    runtime.settings = replace(runtime.settings, orphan_s=1e-3)
    clean_up_twice(runtime)
    assert stored(runtime) == {recording_key(kept), strange}
    assert not half.exists()


def test_files_of_jobs_that_no_row_names_are_removed_once_they_are_old(runtime: Runtime) -> None:
    """A worker that dies at the end of a training leaves a model that was never registered."""
    job, stranger = uuid.uuid4(), uuid.uuid4()
    prefix = training_prefix(job)
    with runtime.store.transaction() as tx:
        key = f"{prefix}clips/0"
        clip = NewTrainingClipRow(file_name="a", label="x", source="a", blob_key=key)
        model_queries.add_training(tx, [clip], id=job, name="x", algorithm="lda", seed=0)
        model_queries.register_model(
            tx,
            name="x",
            version="1",
            sha256="0" * 64,
            header={},
            blob_key=f"{prefix}model-2",
            confusion_key=f"{prefix}confusion-2.png",
        )
        validation = model_queries.add_validation(tx, id=uuid.uuid4(), file_key="a model").id
    named = {f"{prefix}{name}" for name in ("clips/0", "model-2", "confusion-2.png")}
    named.add(f"{validation_prefix(validation)}clips/0")
    lost = {
        f"{prefix}model-1",
        f"{training_prefix(stranger)}clips/0",
        f"{validation_prefix(stranger)}model",
    }
    for key in named | lost:
        runtime.blobs.put(key, b"")
    clean_up_twice(runtime)
    assert {*runtime.blobs.keys("")} == named | lost | {OWNER}

    runtime.settings = replace(runtime.settings, orphan_s=1e-6)
    clean_up_twice(runtime)
    assert {*runtime.blobs.keys("")} == named | {OWNER}


# --- messages ---


def test_messages_that_come_too_early_too_late_and_twice_change_nothing(other: Runtime) -> None:
    """All four messages, forwards and backwards, at each stage of a session."""
    session_id = add(other, DEMO)
    each: list[Nudge] = [
        ProcessAudioFile(session_id=session_id),
        SplitRecording(session_id=session_id),
        DetectSpan(session_id=session_id, span_index=0),
        AggregateSession(session_id=session_id),
    ]
    # The first pass can use only the last message; each further pass the one before it.
    for nudge in each[::-1] * len(each):
        handle(other, nudge)
    assert sessions(other)[0].state == "completed"
    for nudge in each * 2:
        handle(other, nudge)
    assert runs(other) == dict.fromkeys(
        [("process", "done"), ("split", "done"), ("detect", "done"), ("aggregate", "done")], 1
    )


# --- a worker's step ---------------------------------------------------------------------------


def test_postgres_away_at_the_claim_costs_a_message_and_no_work(
    runtime: Runtime, other: Runtime, cable: PostgresProxy
) -> None:
    session_id = add(runtime, DEMO)
    cable.cut()
    handle(runtime, ProcessAudioFile(session_id=session_id))
    cable.mend()
    assert [session.state for session in run_to_the_end(runtime)] == ["completed"]
    assert runs(other) == dict.fromkeys(
        [("process", "done"), ("split", "done"), ("detect", "done"), ("aggregate", "done")], 1
    )


def test_a_step_whose_commit_was_not_answered_is_not_done_again(
    runtime: Runtime, other: Runtime, cable: PostgresProxy
) -> None:
    session_id = add(runtime, DEMO)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    # Each run is recorded in the transaction that writes its result.
    cable.lose_commit(after="INSERT INTO processing_metrics")
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    assert cable.lost.is_set()
    [session] = run_to_the_end(other)
    assert session.state == "completed"
    assert session.spans_finished == session.spans_total == 1
    assert runs(other)["detect", "done"] == runs(other)["aggregate", "done"] == 1


def test_postgres_away_at_the_commit_has_the_step_run_again(
    runtime: Runtime, other: Runtime, cable: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add(runtime, DEMO)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    put = runtime.blobs.put

    def cut_behind(key: str, content: bytes) -> None:
        put(key, content)
        cable.cut()

    with monkeypatch.context() as patched:
        # The last thing that ``split`` does before it commits.
        patched.setattr(runtime.blobs, "put", cut_behind)
        handle(runtime, SplitRecording(session_id=session_id))
    [session] = run_to_the_end(other)
    assert session.state == "completed"
    assert runs(other)["split", "done"] == runs(other)["aggregate", "done"] == 1
    # The first attempt's products are removed with the decoded audio of the second.
    Recovery(other).round()
    [session] = sessions(other)
    assert stored(other) == {
        session.recording_key,
        session.levels_key,
        session.levels_answer_key,
        session.spectrogram_key,
    }


def test_a_zombies_late_commit_is_refused(
    runtime: Runtime, other: Runtime, cable: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker loses Postgres and so its lease, and another one does the work. The first then comes
    back with an outdated result.
    """
    session_id = add(runtime, DEMO)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    reading, may_read = threading.Event(), threading.Event()
    get_range = runtime.blobs.get_range

    def slowly(key: str, *, start: int, length: int) -> bytes:
        reading.set()
        assert may_read.wait(60)
        return get_range(key, start=start, length=length)

    monkeypatch.setattr(runtime.blobs, "get_range", slowly)
    span = DetectSpan(session_id=session_id, span_index=0)
    zombie = threading.Thread(target=handle, args=(runtime, span))
    zombie.start()
    assert reading.wait(60)
    cable.cut()
    [session] = run_to_the_end(other)
    answer = detections(other, session_id)
    cable.mend()
    may_read.set()
    zombie.join(60)
    assert not zombie.is_alive()
    assert session.state == "completed"
    assert sessions(other)[0].spans_finished == 1
    assert detections(other, session_id) == answer
    assert runs(other)["detect", "done"] == runs(other)["aggregate", "done"] == 1
    assert runs(other)["detect", "superseded"] == 1


def detections(runtime: Runtime, session_id: uuid.UUID) -> list[tuple[Any, ...]]:
    with runtime.store.transaction() as tx:
        events = detections_of(tx, session_id)
        return [(event.start_s, event.end_s, event.noise_type) for event in events]


def test_a_lease_outlives_a_postgres_that_is_away_for_less(
    runtime: Runtime, other: Runtime, cable: PostgresProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One renewal fails and the next comes in time, so no other worker gets the work."""
    runtime.settings = replace(runtime.settings, lease_s=6.0)
    session_id = add(runtime, DEMO)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    work = SessionWork(session_id=session_id, state="splitting")
    open_blob = runtime.blobs.open

    def meanwhile(key: str) -> Any:
        claimed_until = due_at(other, work)
        cable.cut()
        # The first renewal, which fails, is due a third of the lease after the claim.
        time.sleep(3.0)
        cable.mend()
        eventually(lambda: due_at(other, work) > claimed_until, what="a renewal")
        return open_blob(key)

    monkeypatch.setattr(runtime.blobs, "open", meanwhile)
    handle(runtime, SplitRecording(session_id=session_id))
    assert sessions(other)[0].state == "detecting"
    assert runs(other) == {("process", "done"): 1, ("split", "done"): 1}


def due_at(runtime: Runtime, work: SessionWork) -> Any:
    return work_of(runtime, work.session_id).due_at
