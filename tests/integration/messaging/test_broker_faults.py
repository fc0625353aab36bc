"""How the product copes with a failing RabbitMQ; the tests run their own broker."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import dramatiq
import pytest
import structlog
import structlog.testing
from sqlalchemy import text

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging import broker, deadlines, messages, queues
from actors.messaging.broker import Publisher
from actors.messaging.messages import DetectSpan, ProcessAudioFile
from actors.recovery import Recovery
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.settings import Settings
from tests.support import recordings, servers
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

SESSION = uuid.uuid4()
#: How soon a worker notices that the broker stands still.
NOTICED_S = 10.0
#: The age in seconds of the oldest transaction but this one.
OLDEST = text(
    "SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[servers.PrivateRabbitmq]:
    with ExitStack() as stack:
        try:
            server = stack.enter_context(servers.private_rabbitmq())
        except servers.ServerUnavailable as reason:
            servers.unavailable(reason)
        yield server


@pytest.fixture
def settings(memory_settings: Settings, rabbitmq: servers.PrivateRabbitmq) -> Settings:
    """Settings with separate queues for each test."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    return replace(
        memory_settings,
        amqp_url=rabbitmq.url,
        queue_prefix=prefix,
        lease_s=1.0,
        recovery_s=0.2,
    )


@contextmanager
def out_of_memory(rabbitmq: servers.PrivateRabbitmq) -> Iterator[None]:
    """Set off RabbitMQ's memory alarm, which blocks publishers."""
    rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    try:
        yield
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")


def gave_up(logs: list[structlog.typing.EventDict]) -> bool:
    """Return whether a publish, or the count before it, has been given up."""
    return any(entry["event"] == "broker_away" for entry in logs)


def span(index: int) -> DetectSpan:
    return DetectSpan(session_id=SESSION, span_index=index)


def test_a_publish_while_the_broker_blocks_is_given_up_in_time(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq
) -> None:
    """It must neither hang nor count as sent; a stopping process waits for it."""
    rabbit: Any = broker.setup(settings)
    publisher = Publisher(rabbit, prefix=settings.queue_prefix)
    publisher.send(span(0)).result(timeout=20)
    with out_of_memory(rabbitmq):
        started = time.monotonic()
        assert not publisher.send(span(1), span(2)).result(timeout=120)
        took_s = time.monotonic() - started
    assert took_s < 2.5 * broker.BLOCKED_TIMEOUT_S
    # During the pause after a failure nudges are dropped, not published.
    eventually(lambda: publisher.send(span(3)).result(timeout=30), what="a confirmed publish")
    consumer = rabbit.consume(
        messages.queue_name(DetectSpan, prefix=settings.queue_prefix), prefetch=9, timeout=1_000
    )
    arrived = [message.kwargs["span_index"] for message in iter(lambda: next(consumer), None)]
    # RabbitMQ may accept a message that its sender has given up, but the sender must not count a
    # confirmed message as lost.
    assert {0, 3} <= set(arrived)
    assert Counter(arrived)[3] == 1
    consumer.close()
    publisher.close()
    rabbit.close()


def test_an_idle_worker_notices_a_broker_that_stands_still(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq
) -> None:
    """In time, and without a transaction that waits for the broker."""
    rabbit: Any = broker.setup(settings)
    runtime = Runtime(settings, rabbit)
    recovery = Recovery(runtime)
    recovery.round()
    recovery.start()
    assert not queues.away_s(rabbit)
    rabbitmq.freeze()
    try:
        oldest_s = 0.0
        frozen_at = time.monotonic()
        while not queues.away_s(rabbit):
            assert time.monotonic() - frozen_at < NOTICED_S
            with runtime.store.reading() as tx:
                oldest_s = max(oldest_s, tx.execute(OLDEST).scalar() or 0.0)
            time.sleep(0.1)
        assert oldest_s < deadlines.ANSWER_S / 2
        with pytest.raises(queues.BrokerUnavailable):
            queues.depths(rabbit, prefix=settings.queue_prefix)
        # A new connection is given up, too.
        assert not runtime.publisher.send(span(0)).result(timeout=2 * NOTICED_S)
    finally:
        rabbitmq.thaw()
    eventually(lambda: not queues.away_s(rabbit), what="its return")
    recovery.stop()
    runtime.close()
    rabbit.close()


def test_a_question_to_a_broker_that_stands_still_ends_in_time(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq
) -> None:
    rabbit: Any = broker.setup(settings)
    with queues.connected(rabbit) as connection:
        queue = messages.queue_name(DetectSpan, prefix=settings.queue_prefix)
        rabbitmq.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(deadlines.NoAnswer):
                queues.count(connection, queue)
            assert time.monotonic() - began < deadlines.ANSWER_S + 1.0
        finally:
            rabbitmq.thaw()
    rabbit.close()


def test_no_message_is_lost_or_left_when_connections_are_closed_under_a_worker(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq
) -> None:
    """Acks of messages delivered on an older connection must not hit others."""
    rabbit: Any = broker.setup(settings)
    queue = messages.queue_name(DetectSpan, prefix=settings.queue_prefix)
    handled: Counter[int] = Counter()

    @dramatiq.actor(broker=rabbit, actor_name=DetectSpan.actor, queue_name=queue)
    def slow(span_index: int, **_rest: Any) -> None:
        time.sleep(0.05)
        handled[span_index] += 1

    for index in range(60):
        messages.send(span(index), broker=rabbit, prefix=settings.queue_prefix)
    working = dramatiq.Worker(rabbit, worker_threads=2, worker_timeout=100)
    working.start()

    def beyond(count: int) -> bool:
        return sum(handled.values()) > count

    for share in (10, 30):
        eventually(partial(beyond, share), what="work to go on")
        rabbitmq.control("close_all_connections", "a test")
    eventually(lambda: len(handled) == 60, what=f"every message; there came {sorted(handled)}")
    eventually(lambda: waiting(rabbitmq, queue) == (0, 0), what="an empty queue")
    working.stop()
    rabbit.close()


def waiting(rabbitmq: servers.PrivateRabbitmq, queue: str) -> tuple[int, int]:
    """Return the numbers of ready and of unacknowledged messages."""
    listed = rabbitmq.control("list_queues", "name", "messages_ready", "messages_unacknowledged")
    [line] = [line for line in listed.splitlines() if line.split()[0] == queue]
    return int(line.split()[1]), int(line.split()[2])


def test_a_publish_that_is_lost_with_the_broker_is_made_good_by_recovery(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker stops during the first step: the commit stands, but its ack and the message to the
    next step are lost. Nothing is done twice as a result.
    """
    rabbit: Any = broker.setup(settings)
    runtime = Runtime(settings, rabbit)
    session_id = add(runtime)
    open_blob = runtime.blobs.open
    outages = iter([rabbitmq.stop])

    def meanwhile(key: str) -> Any:
        next(outages, lambda: None)()
        return open_blob(key)

    monkeypatch.setattr(runtime.blobs, "open", meanwhile)
    worker.declare(rabbit, runtime)
    runtime.publisher.send(ProcessAudioFile(session_id=session_id)).result(timeout=20)
    working = dramatiq.Worker(rabbit, worker_threads=1, worker_timeout=100)
    working.start()
    eventually(lambda: runs(runtime)["process", "done"] == 1, what="the first step")
    assert queues.away_s(rabbit) > 0
    rabbitmq.start()
    eventually(lambda: runs(runtime)["analyze", "done"], timeout_s=90, what="the end")
    working.stop()
    assert runs(runtime) == dict.fromkeys(
        [(step, "done") for step in ("process", "split", "detect", "aggregate", "analyze")], 1
    )


def test_recovery_nudges_again_what_it_could_not_send(
    settings: Settings, rabbitmq: servers.PrivateRabbitmq
) -> None:
    rabbit: Any = broker.setup(settings)
    runtime = Runtime(settings, rabbit)
    recovery = Recovery(runtime)
    session_id = add(runtime)
    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE unfinished_sessions SET nudged_at = now() - interval '1 hour'"))
    with out_of_memory(rabbitmq), structlog.testing.capture_logs() as logs:
        # A publisher that has not published yet is not blocked by the alarm.
        runtime.publisher.send(ProcessAudioFile(session_id=session_id))
        eventually(lambda: gave_up(logs), timeout_s=120, what="a failure")
        assert recovery.round() == []
        assert queues.away_s(rabbit) > 0

    queue = messages.queue_name(ProcessAudioFile, prefix=settings.queue_prefix)

    def nudged() -> bool:
        # RabbitMQ may accept messages that their sender has given up; no other is needed then.
        return bool(recovery.round()) or rabbit.count(queue)[0] > 0

    eventually(nudged, timeout_s=40, what="the nudge")
    consumer = rabbit.consume(queue, timeout=20_000)
    message = next(consumer)
    assert message is not None
    assert message.kwargs == {"session_id": str(session_id)}
    consumer.close()
    runtime.close()
    rabbit.close()


def add(runtime: Runtime) -> uuid.UUID:
    """Add a session as an upload leaves it."""
    session_id, content = uuid.uuid4(), recordings.encode(recordings.demo())
    runtime.blobs.put(recording_key(session_id), content)
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            file_name="a.flac",
            size_bytes=len(content),
            recording_key=recording_key(session_id),
        )
    return session_id


def runs(runtime: Runtime) -> Counter[tuple[str, str]]:
    """Count the runs by step and result."""
    with runtime.store.transaction() as tx:
        rows = tx.execute(text("SELECT step, result FROM processing_metrics"))
        return Counter((step, result) for step, result in rows)
