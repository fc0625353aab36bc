"""The state of the queues, by the broker and by the rows."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pika
import pytest
from sqlalchemy import text

from actors.messaging import broker, kinds, messages, queues
from actors.messaging.messages import DetectSpan
from db.blobs.keys import recording_key
from db.queries import queue_queries, session_queries, span_queries
from db.queue import claims
from db.queue.claims import SessionWork
from db.settings import Settings
from db.store import Store
from tests.integration.messaging.dead_letters import UNREADABLE, bury, depth, queue_of, span, take
from tests.support import servers
from tests.support.cluster import eventually
from tests.support.pipeline import put_into

pytestmark = pytest.mark.integration


def test_every_queue_is_told_and_none_is_made(rabbit: Any, prefix: str) -> None:
    found = queues.depths(rabbit, prefix=prefix)
    assert [each.nudge for each in found] == [kind.message for kind in kinds.KINDS]
    assert {(each.ready, each.dead, each.consumers, each.unacked) for each in found} == {
        (0, 0, 0, None)
    }
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        rabbit.channel.queue_declare(queue_of(DetectSpan, prefix), passive=True)


def test_ready_dead_and_consumers_are_counted(rabbit: Any, prefix: str) -> None:
    bury(rabbit, prefix, span(0), UNREADABLE)
    for index in range(3):
        messages.send(span(index), broker=rabbit, prefix=prefix)
    # Quorum queues update their counts asynchronously.
    eventually(lambda: depth(rabbit, prefix).ready == 3, timeout_s=60, what="three messages")
    consumer = rabbit.consume(queue_of(DetectSpan, prefix), prefetch=1)
    assert next(consumer) is not None
    eventually(lambda: depth(rabbit, prefix).ready == 2, timeout_s=60, what="one in its hands")
    found = depth(rabbit, prefix)
    consumer.close()
    assert (found.dead, found.consumers) == (2, 1)


@pytest.mark.slow
def test_unacked_messages_are_known_where_the_management_api_is(rabbit_settings: Settings) -> None:
    with servers.private_rabbitmq(management=True) as server:
        settings = replace(
            rabbit_settings, amqp_url=server.url, rabbitmq_api_url=server.api_url + "/"
        )
        private: Any = broker.setup(settings)
        prefix = settings.queue_prefix
        for index in range(3):
            messages.send(span(index), broker=private, prefix=prefix)
        take(private, queue_of(DetectSpan, prefix))

        def counted() -> bool:
            found = queues.depths(private, prefix=prefix, api_url=settings.rabbitmq_api_url)
            [spans] = [each for each in found if each.nudge is DetectSpan]
            return (spans.ready, spans.unacked) == (2, 1)

        # RabbitMQ updates these statistics every five seconds.
        eventually(counted, timeout_s=30, what="one unacked message of three")
        wrong = server.api_url.replace("guest:guest", "guest:wrong")
        found = queues.depths(private, prefix=prefix, api_url=wrong)
        assert {each.unacked for each in found} == {None}
        private.close()


def test_the_memory_broker_knows_its_queues_exactly(memory_settings: Settings) -> None:
    memory: Any = broker.setup(memory_settings)
    prefix = memory_settings.queue_prefix
    for index in range(3):
        messages.send(span(index), broker=memory, prefix=prefix)
    consumer = memory.consume(queue_of(DetectSpan, prefix), prefetch=2)
    rejected = next(consumer)
    consumer.nack(rejected)
    assert next(consumer) is not None
    found = depth(memory, prefix)
    assert (found.ready, found.unacked, found.dead) == (1, 1, 1)


def test_the_oldest_row_and_those_that_are_held_are_counted_by_kind(store: Store) -> None:
    ids = [uuid.uuid4() for _ in range(3)]
    with store.transaction() as tx:
        for each in ids:
            session_queries.add_session(
                tx, id=each, file_name="a", size_bytes=1, recording_key=recording_key(each)
            )
        tx.execute(
            text(
                "UPDATE unfinished_sessions SET due_at = now() - interval '100 s'"
                " WHERE session_id = :id"
            ),
            {"id": ids[0]},
        )
        due_at = claims.seconds_ago(9 * 3_600)
        put_into(tx, ids[1], "detecting", spans_total=1, work={"due_at": due_at})
        tx.add_all(span_queries.new_spans(ids[1], [(0, 0, 10), (1, 10, 20)]))
    with store.transaction() as tx:
        found = kinds.backlogs(tx)
        assert found["audio.process"].oldest_s == pytest.approx(100, abs=20)
        assert (found["audio.process"].held, found["audio.process"].due) == (0, 2)
        assert found["audio.detect"].due == 2
        # A session in `detecting` is not itself a work item.
        assert found["audio.detect"].oldest_s == pytest.approx(0, abs=20)
        assert claims.this(SessionWork(session_id=ids[0], state="queued"), tx, lease_s=30)
        span = SessionWork(session_id=ids[1], span_index=1, state="pending")
        assert claims.this(span, tx, lease_s=30)
    with store.transaction() as tx:
        found = kinds.backlogs(tx)
        assert (found["audio.process"].held, found["audio.process"].due) == (1, 1)
        assert found["audio.detect"].due == 1
        assert found["audio.process"].oldest_s == pytest.approx(0, abs=20)
        assert found["audio.detect"].held == 1
        assert (found["training.train"].held, found["training.train"].oldest_s) == (0, None)
        assert queue_queries.count_unfinished(tx) == {
            "queued": 2,
            "splitting": 0,
            "detecting": 1,
            "aggregating": 0,
        }
        assert session_queries.cancel_session(tx, ids[1])
    with store.transaction() as tx:
        assert kinds.backlogs(tx)["audio.detect"].held == 0
        assert queue_queries.count_finished(tx) == {
            "completed": 0,
            "partial": 0,
            "failed": 0,
            "cancelled": 1,
        }
