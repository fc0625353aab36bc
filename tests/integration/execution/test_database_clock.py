"""The clock of the database is set back: work that was due goes on being due."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
import structlog.testing
from sqlalchemy import text
from sqlalchemy.orm import Session

from actors.execution import failures
from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.broker import Publisher
from actors.messaging.messages import ProcessAudioFile, SplitRecording
from actors.recovery import Recovery
from db.queries import session_queries
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from tests.support import recordings
from tests.support.pipeline import add, handle, run_to_the_end, work_of

pytestmark = pytest.mark.integration

#: How far the clock is set back.
AHEAD_S = 120
LEASE_S = 5.0

#: Functions that hide those of the system, by the search path.
CLOCK = """
    CREATE SCHEMA clock;
    CREATE TABLE clock.ahead (seconds int);
    INSERT INTO clock.ahead VALUES (:seconds);
    CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        'SELECT pg_catalog.clock_timestamp() + seconds * interval ''1 s'' FROM clock.ahead';
    CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
        'SELECT pg_catalog.now() + seconds * interval ''1 s'' FROM clock.ahead';
"""


@pytest.fixture
def ahead(memory_settings: Settings) -> Iterator[Runtime]:
    """A worker whose database has a clock that is ahead."""
    url = f"{memory_settings.database_url}?options=-csearch_path%3Dclock,pg_catalog,public"
    settings = replace(memory_settings, database_url=url, lease_s=LEASE_S)
    runtime = Runtime(settings, broker.setup(settings))
    with runtime.store.transaction() as tx:
        for statement in CLOCK.split(";\n"):
            tx.execute(text(statement), {"seconds": AHEAD_S} if ":seconds" in statement else {})
    yield runtime
    runtime.close()


def set_back(runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE clock.ahead SET seconds = 0"))


def waits_s(runtime: Runtime, session_id: uuid.UUID) -> float:
    with runtime.store.transaction() as tx:
        now = session_queries.clock(tx)
    return (work_of(runtime, session_id).due_at - now).total_seconds()


def claim(runtime: Runtime, session_id: uuid.UUID) -> int:
    """Claim a queued session, as a worker that dies."""
    with runtime.store.transaction() as tx:
        work = SessionWork(session_id=session_id, state="queued")
        claimed = claims.this(work, tx, lease_s=LEASE_S)
        assert claimed is not None
        return claimed.attempt


def warnings(recovery: Recovery) -> list[int]:
    with structlog.testing.capture_logs() as lines:
        recovery.round()
    return [line["rows"] for line in lines if line["event"] == "database_clock_set_back"]


def test_work_goes_on_when_the_clock_of_the_database_is_set_back(ahead: Runtime) -> None:
    recording = recordings.encode(recordings.long(1.0))
    recovery = Recovery(ahead)
    assert warnings(recovery) == []
    splitting, held = add(ahead, recording), add(ahead, recording)
    handle(ahead, ProcessAudioFile(session_id=splitting))
    attempt = claim(ahead, held)
    # The message to the next step is lost.
    ahead.publisher.close()
    ahead.publisher = Publisher(ahead.publisher.broker, prefix=ahead.settings.queue_prefix)
    ahead.publisher.broker.flush_all()
    set_back(ahead)
    assert waits_s(ahead, splitting) > AHEAD_S - 30
    assert waits_s(ahead, held) > AHEAD_S - 30
    with structlog.testing.capture_logs() as lines:
        nudges = recovery.round()
    assert SplitRecording(session_id=splitting) in nudges
    [line] = [line for line in lines if line["event"] == "database_clock_set_back"]
    assert (line["log_level"], line["rows"]) == ("warning", 2)
    assert AHEAD_S - 1 < line["set_back_s"] < AHEAD_S + 1
    # A lease keeps its length, and its worker may renew it.
    assert waits_s(ahead, held) < LEASE_S
    with ahead.store.transaction() as tx:
        work = SessionWork(session_id=held, state="queued")
        assert claims.extend_lease(tx, work, attempt=attempt, lease_s=0.0)
    assert warnings(recovery) == []
    assert run_to_the_end(ahead, splitting).state == "completed"
    assert run_to_the_end(ahead, held).state == "completed"


@pytest.mark.parametrize(
    ("wait_s", "is_pulled"),
    [(failures.LONGEST_DELAY_S + LEASE_S + 60, True), (failures.LONGEST_DELAY_S - 1, False)],
)
def test_a_worker_that_starts_pulls_what_no_wait_explains(
    runtime: Runtime, wait_s: float, is_pulled: bool
) -> None:
    session_id = add(runtime, recordings.encode(recordings.long(1.0)))
    attempt = claim(runtime, session_id)
    with runtime.store.transaction() as tx:
        work = SessionWork(session_id=session_id, state="queued")
        assert claims.retry_later(tx, work, attempt=attempt, delay_s=wait_s, error="any")
    assert warnings(Recovery(runtime)) == ([1] if is_pulled else [])
    assert (waits_s(runtime, session_id) <= 0) is is_pulled


def test_a_slow_answer_and_a_clock_that_leaps_ahead_are_no_fault(
    ahead: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = Recovery(ahead)
    set_back(ahead)
    warnings(recovery)
    with ahead.store.transaction() as tx:
        tx.execute(text("UPDATE clock.ahead SET seconds = 120"))
    assert warnings(recovery) == []
    read = session_queries.clock

    def slow(tx: Session) -> datetime:
        now = read(tx)
        with ahead.store.transaction() as other:
            other.execute(text("SELECT pg_sleep(0.2)"))
        return now

    monkeypatch.setattr(session_queries, "clock", slow)
    monkeypatch.setattr("actors.recovery.SET_BACK_S", 0.1)
    assert warnings(recovery) == []
    assert warnings(recovery) == []
