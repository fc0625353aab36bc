"""A long backlog fills no queue: messages wait for consumers, not for rows."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker, messages
from actors.messaging.messages import ProcessAudioFile
from actors.messaging.queue_room import MESSAGES_A_CONSUMER, UNCOUNTED
from actors.recovery import Recovery
from db.queries import session_queries
from db.settings import Settings
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

ROWS = 3_000
#: Ends the work on one row, as a step that is quick.
TAKE = text("""
    UPDATE unfinished_sessions SET due_at = 'infinity' WHERE session_id = (
        SELECT session_id FROM unfinished_sessions
        WHERE due_at <= now() LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING 1
""")


@pytest.fixture
def runtime(rabbit_settings: Settings) -> Iterator[Runtime]:
    runtime = Runtime(rabbit_settings, broker.setup(rabbit_settings))
    yield runtime
    runtime.close()
    runtime.publisher.broker.close()


@pytest.fixture
def queue(rabbit_settings: Settings) -> str:
    return messages.queue_name(ProcessAudioFile, prefix=rabbit_settings.queue_prefix)


def add_rows(runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        for _ in range(ROWS):
            session_queries.add_session(
                tx, id=uuid.uuid4(), file_name="a.flac", size_bytes=1, recording_key="none"
            )
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET nudged_at = now() - interval '1 min'"))


def test_neither_uploads_nor_recovery_fill_a_queue_that_nobody_reads(
    runtime: Runtime, queue: str
) -> None:
    add_rows(runtime)
    rabbit: Any = runtime.publisher.broker
    recovery = Recovery(runtime)
    sent = [runtime.publisher.send(ProcessAudioFile(session_id=uuid.uuid4())) for _ in range(ROWS)]
    assert all(each.result(timeout=60) for each in sent)
    assert rabbit.count(queue)[0] <= MESSAGES_A_CONSUMER + UNCOUNTED
    for _ in range(30):
        recovery.round()
        # As if each round were a minute after the one before.
        with runtime.store.transaction() as tx:
            tx.execute(text("UPDATE unfinished_sessions SET nudged_at = now() - interval '1 min'"))
    runtime.publisher.levels([ProcessAudioFile]).result(timeout=20)
    assert rabbit.count(queue)[0] <= MESSAGES_A_CONSUMER + UNCOUNTED


def test_a_backlog_that_is_longer_than_its_queue_is_worked_off(
    runtime: Runtime, queue: str
) -> None:
    """Recovery fills the queue as it empties, and few messages find no row."""
    add_rows(runtime)
    rabbit: Any = runtime.publisher.broker
    found: list[bool] = []

    @dramatiq.actor(broker=rabbit, actor_name=ProcessAudioFile.actor, queue_name=queue)
    def take(**_names: Any) -> None:
        with runtime.store.transaction() as tx:
            found.append(tx.scalar(TAKE) is not None)

    recovery = Recovery(runtime)
    worker = dramatiq.Worker(rabbit, worker_threads=1, worker_timeout=100)
    worker.start()
    recovery.start()
    longest = 0

    def is_done() -> bool:
        nonlocal longest
        longest = max(longest, rabbit.count(queue)[0])
        time.sleep(0.2)
        return sum(found) == ROWS

    eventually(is_done, timeout_s=240, what=f"{ROWS} rows")
    recovery.stop()
    worker.stop()
    assert longest <= MESSAGES_A_CONSUMER + UNCOUNTED
    assert len(found) < 1.2 * ROWS
    print(f"longest queue {longest}, messages {len(found)}")
