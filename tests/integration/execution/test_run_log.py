"""However a run ends, the log has one line and the row has the next step."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Shutdown
from psycopg import sql
from sqlalchemy import text
from structlog.testing import capture_logs

from actors.execution import failures, runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runner import Result, Task
from actors.execution.runtime import Runtime
from actors.messaging.messages import CheckHealth, DetectSpan, ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from db.blobs.errors import StorageFull, StorageUnavailable
from db.blobs.keys import product_key, recording_key
from db.queue import claims
from db.queue.claims import Claim, SessionWork
from db.settings import Settings
from tests.support import outages, recordings
from tests.support.clock import ask, findings
from tests.support.cluster import eventually
from tests.support.pipeline import add, handle, run_to_the_end, session, span, split, work_of

pytestmark = pytest.mark.integration

Perform = Callable[[Lease], Result]


def queued(runtime: Runtime, perform: Perform, session_id: uuid.UUID | None = None) -> uuid.UUID:
    """Run a custom task on a queued session."""
    session_id = session_id or add(runtime, b"x")
    work = SessionWork(session_id=session_id, state="queued")
    runner.run(
        runtime,
        ProcessAudioFile(session_id=session_id),
        partial(claims.this, work),
        lambda work: Task(name="process", work=work, perform=perform, give_up=runner.fail(work)),
    )
    return session_id


def raising(error: BaseException) -> Perform:
    def perform(_hold: Lease) -> Result:
        raise error

    return perform


def due(runtime: Runtime, session_id: uuid.UUID) -> None:
    with runtime.store.transaction() as tx:
        for table in ("unfinished_sessions", "session_spans"):
            tx.execute(
                text(f"UPDATE {table} SET due_at = now() WHERE session_id = :id"),  # noqa: S608
                {"id": session_id},
            )


@contextmanager
def one_line() -> Iterator[dict[str, Any]]:
    """Yield the log line of the one run in the block; check that there is exactly one."""
    line: dict[str, Any] = {}
    with capture_logs() as logs:
        yield line
    [found] = [each for each in logs if each["event"] == "actor_run"]
    line |= found


def test_done_and_nothing_to_do(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    with one_line() as first:
        handle(runtime, ProcessAudioFile(session_id=session_id))
    with one_line() as second:
        handle(runtime, ProcessAudioFile(session_id=session_id))
    assert first["result"] == "done"
    assert first["log_level"] == "info"
    assert first["actor"] == "process_audio_file"
    assert first["session_id"] == str(session_id)
    assert first["attempt"] == 1
    assert first["duration_s"] > 0
    assert first["error"] is None
    assert second["result"] == "nothing_to_do"
    assert second["attempt"] is None


def test_a_permanent_failure_ends_at_once(runtime: Runtime) -> None:
    session_id = add(runtime, b"this is no audio" * 100)
    with one_line() as line:
        handle(runtime, ProcessAudioFile(session_id=session_id))
    assert (line["result"], line["log_level"]) == ("failed", "warning")
    ended = session(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "unknown-format"


def test_a_model_that_nobody_knows_fails_for_good(runtime: Runtime) -> None:
    with one_line() as line:
        session_id = queued(runtime, lambda _hold: runtime.model(uuid.uuid4()))  # type: ignore[arg-type, return-value]
    assert line["result"] == "failed"
    problem = session(runtime, session_id).problem
    assert problem is not None
    assert problem["code"] == "unknown-model"


def test_the_run_that_gives_up_is_critical_and_keeps_the_last_reason(runtime: Runtime) -> None:
    session_id = add(runtime, b"x")
    most = runtime.settings.max_attempts
    for attempt in range(1, most + 1):
        due(runtime, session_id)
        with one_line() as line:
            queued(runtime, raising(RuntimeError(f"number {attempt}")), session_id)
        assert line["attempt"] == attempt
        if attempt < most:
            assert (line["result"], line["log_level"]) == ("retried", "warning")
            assert line["error"] == f"RuntimeError: number {attempt}"
            assert isinstance(line["exc_info"], RuntimeError)
    assert (line["result"], line["log_level"]) == ("given_up", "critical")
    ended = session(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "given-up"
    last = failures.judge(RuntimeError()).reason
    assert ended.problem == failures.given_up("process", attempts=most, reason=last).problem


def test_a_span_that_kills_its_workers_is_given_up_with_the_last_reason_that_was_kept(
    runtime: Runtime,
) -> None:
    session_id = split(runtime, recordings.encode(recordings.long(2.5)))
    work = SessionWork(session_id=session_id, span_index=1, state="pending")
    for attempt in range(1, runtime.settings.max_attempts + 1):
        with runtime.store.transaction() as tx:
            assert claims.this(work, tx, lease_s=0) == Claim(work, attempt)
            if attempt == 2:
                assert claims.retry_later(tx, work, attempt=2, delay_s=0, error="the disk failed")
    # The first span is served first.
    handle(runtime, DetectSpan(session_id=session_id, span_index=0))
    with one_line() as line:
        handle(runtime, DetectSpan(session_id=session_id, span_index=1))
    assert (line["result"], line["span_index"]) == ("given_up", 1)
    done = run_to_the_end(runtime, session_id)
    assert done.state == "partial"
    assert done.problem is not None
    [missing] = done.problem["missing"]
    assert missing["end_s"] - missing["start_s"] == pytest.approx(60.0)
    most = runtime.settings.max_attempts
    ended = failures.given_up("detect", attempts=most, reason="the disk failed")
    assert missing["reason"] == str(ended)


def test_a_full_disk_is_tried_again_later_and_later(runtime: Runtime, tmp_path: Path) -> None:
    """The system refuses to let a file grow, as with a full disk."""
    session_id = add(runtime, recordings.encode(recordings.long(2)))
    handle(runtime, ProcessAudioFile(session_id=session_id))
    before = sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file())
    wanted_s = failures.RETRY_BASE_S
    for _ in range(3):
        due(runtime, session_id)
        with outages.small_files(1_000_000), one_line() as line:
            handle(runtime, SplitRecording(session_id=session_id))
        assert line["result"] == "retried"
        waiting = work_of(runtime, session_id)
        assert waiting.last_error == failures.judge(StorageFull()).reason
        assert "StorageFull" in line["error"]
        with runtime.store.transaction() as tx:
            wait = waiting.due_at - tx.execute(text("SELECT clock_timestamp()")).scalar_one()
        longest = wanted_s * (1 + failures.RETRY_JITTER)
        assert timedelta(seconds=wanted_s * (1 - failures.RETRY_JITTER) - 1) < wait
        assert wait <= timedelta(seconds=longest)
        wanted_s *= failures.RETRY_FACTOR
    assert sorted(path for path in (tmp_path / "blobs").rglob("*") if path.is_file()) == before
    due(runtime, session_id)
    handle(runtime, SplitRecording(session_id=session_id))
    assert session(runtime, session_id).state == "detecting"


def test_waits_differ_by_chance() -> None:
    waits = {failures.delay_s(2) for _ in range(20)}
    assert len(waits) > 1
    middle = failures.RETRY_BASE_S * failures.RETRY_FACTOR
    assert all(abs(wait - middle) <= failures.RETRY_JITTER * middle for wait in waits)
    assert failures.delay_s(30) <= failures.RETRY_MAX_S * (1 + failures.RETRY_JITTER)


def test_a_blob_store_that_is_away_is_no_missing_recording(runtime: Runtime) -> None:
    session_id = add(runtime, recordings.encode(recordings.demo()))
    folder = Path(unquote(urlsplit(runtime.settings.blob_url).path))
    away = folder.with_name("away")
    folder.rename(away)
    try:
        with one_line() as line:
            handle(runtime, ProcessAudioFile(session_id=session_id))
        health = findings(ask(runtime, CheckHealth()))
    finally:
        away.rename(folder)
    assert line["result"] == "retried"
    told = work_of(runtime, session_id).last_error
    assert told == failures.judge(StorageUnavailable()).reason
    assert "folder" in line["error"]
    assert not health["healthy"]
    assert "blob store" in health["faults"]["blobs"]
    due(runtime, session_id)
    assert run_to_the_end(runtime, session_id).state == "completed"


def test_health_is_one_line_too(runtime: Runtime) -> None:
    add(runtime, b"x")
    with one_line() as line:
        handle(runtime, CheckHealth())
    assert (line["actor"], line["result"], line["error"]) == ("health_check", "done", None)
    result = findings(ask(runtime, CheckHealth()))
    assert result["healthy"]
    assert result["checks"]["database"]["oldest_unfinished_s"] >= 0


def test_an_interrupt_is_a_failure_like_any_other(runtime: Runtime) -> None:
    with one_line() as line:
        session_id = queued(runtime, raising(Shutdown()))
    assert line["result"] == "retried"
    assert work_of(runtime, session_id).last_error == failures.judge(Shutdown()).reason


def test_a_claim_that_went_to_another_is_superseded_and_leaves_no_blobs(runtime: Runtime) -> None:
    def perform(lease: Lease) -> Result:
        mine = lease.own(product_key(session_id, "pcm", attempt=lease.attempt))
        runtime.blobs.put(mine, b"in vain")
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE unfinished_sessions SET attempt = attempt + 1"))
        return Result(runner.move_on(work, to="splitting", values={}))

    session_id = add(runtime, b"x")
    work = SessionWork(session_id=session_id, state="queued")
    with one_line() as line:
        queued(runtime, perform, session_id)
    assert line["result"] == "superseded"
    assert session(runtime, session_id).state == "queued"
    assert runtime.blobs.keys("sessions/") == [recording_key(session_id)]


def test_a_commit_of_which_nobody_knows_keeps_its_blobs(runtime: Runtime) -> None:
    """The commit succeeds but its confirmation is lost: the blobs that the row names stay."""

    def perform(lease: Lease) -> Result:
        key = lease.own(product_key(session_id, "pcm", attempt=lease.attempt))
        runtime.blobs.put(key, b"needed")
        move_on = runner.move_on(work, to="splitting", values={"pcm_key": key})

        def write(tx: Any, attempt: int) -> Any:
            assert move_on(tx, attempt) is not None
            tx.commit()
            raise ConnectionResetError(104, "Connection reset by peer")

        return Result(write)

    session_id = add(runtime, b"x")
    work = SessionWork(session_id=session_id, state="queued")
    with one_line():
        queued(runtime, perform, session_id)
    key = session(runtime, session_id).pcm_key
    assert key is not None
    assert runtime.blobs.get(key) == b"needed"


@contextmanager
def postgres_away(server_url: str, database_url: str) -> Iterator[None]:
    """Make the database refuse connections and cut the existing ones."""
    name = urlsplit(database_url).path[1:]

    def allow(is_allowed: bool) -> None:
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
                    sql.Identifier(name), sql.Literal(is_allowed)
                )
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
            )

    allow(False)
    try:
        yield
    finally:
        allow(True)


def test_without_postgres_a_run_is_one_line_and_nothing_is_lost(
    memory_settings: Settings, memory: StubBroker, postgres_url: str
) -> None:
    settings = replace(memory_settings, lease_s=1.0)
    runtime = Runtime(settings, memory)
    session_id = add(runtime, recordings.encode(recordings.demo()))
    with postgres_away(postgres_url, settings.database_url), one_line() as before:
        handle(runtime, ProcessAudioFile(session_id=session_id))
    assert (before["result"], before["attempt"]) == ("unreachable", None)
    assert before["error"].startswith("OperationalError: ")

    with one_line() as meanwhile:

        def perform(lease: Lease) -> Result:
            away.__enter__()
            raise OSError(5, "Input/output error", "/somewhere/secret")

        away = postgres_away(postgres_url, settings.database_url)
        try:
            queued(runtime, perform, session_id)
        finally:
            away.__exit__(None, None, None)
    assert (meanwhile["result"], meanwhile["attempt"]) == ("unreachable", 1)

    # Nothing was written: the lease ends, and recovery finds the row.
    recovery = Recovery(runtime)
    [nudge] = eventually(recovery.round, timeout_s=20, what="recovery's nudge")
    assert nudge == ProcessAudioFile(session_id=session_id)
    handle(runtime, nudge)
    assert work_of(runtime, session_id).attempt == 0
    assert run_to_the_end(runtime, session_id).state == "completed"
    runtime.close()


def test_what_failed_for_good_leaves_no_blobs(runtime: Runtime) -> None:
    def perform(lease: Lease) -> Result:
        runtime.blobs.put(lease.own(product_key(session_id, "pcm", attempt=1)), b"partial")
        raise Permanent("too-long", "too long")

    session_id = add(runtime, b"x")
    queued(runtime, perform, session_id)
    assert session(runtime, session_id).state == "failed"
    assert runtime.blobs.keys("sessions/") == [recording_key(session_id)]


def test_a_lost_span_of_the_only_one_says_why_nothing_was_heard(runtime: Runtime) -> None:
    session_id = split(runtime, recordings.encode(recordings.demo()))
    pcm_key = session(runtime, session_id).pcm_key
    assert pcm_key is not None
    runtime.blobs.delete(pcm_key, recording_key(session_id))
    ended = run_to_the_end(runtime, session_id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "nothing-heard"
    assert ended.problem["detail"].endswith(str(span(runtime, session_id, 0).last_error))
