"""The return of dead letters, on a real RabbitMQ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from typing import Any

import dramatiq
import pytest
from dramatiq.common import xq_name
from dramatiq.middleware import Middleware, SkipMessage
from sqlalchemy import text

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging import broker, dead_letters, messages, queues, rabbitmq
from actors.messaging.dead_letters import Fate
from actors.messaging.messages import DetectSpan, ProcessAudioFile
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.settings import Settings
from db.store import Store
from services.cli.main import main
from tests.integration.messaging.dead_letters import (
    UNREADABLE,
    bury,
    depth,
    queue_of,
    span,
    take,
    url_of,
)
from tests.support import recordings
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration


def assert_live(rabbit: Any, prefix: str, indexes: list[int]) -> None:
    """Check that the spans' queue holds messages of these spans in this order; empty it."""
    queue = queue_of(DetectSpan, prefix)
    bodies = [take(rabbit, queue)[2] for _ in indexes]
    assert [dramatiq.Message.decode(body).kwargs["span_index"] for body in bodies] == indexes
    assert rabbit.channel.basic_get(queue)[0] is None


def test_a_look_harms_no_dead_letter(rabbit: Any, prefix: str) -> None:
    """On a quorum queue each look would count as a delivery, up to the limit."""
    sent = [span(index) for index in range(3)]
    bury(rabbit, prefix, *sent)
    for _ in range(4 * rabbitmq.DELIVERY_LIMIT):
        letters = dead_letters.look(rabbit, DetectSpan, prefix=prefix, limit=2)
        assert [letter.nudge for letter in letters] == sent[:2]
        assert depth(rabbit, prefix).dead == 3
    first = letters[0]
    assert first.cause == "rejected"
    assert first.sent_at is not None
    assert first.died_at is not None
    # RabbitMQ counts in whole seconds.
    assert -1 < (first.died_at - first.sent_at).total_seconds() < 30


def test_replay_brings_back_in_order_and_counts_deliveries_anew(rabbit: Any, prefix: str) -> None:
    queue = queue_of(DetectSpan, prefix)
    messages.send(span(0), broker=rabbit, prefix=prefix)
    # Redelivered again and again, as to workers that die handling it.
    for _ in range(rabbitmq.DELIVERY_LIMIT + 1):
        method, _, _ = take(rabbit, queue)
        rabbit.channel.basic_nack(method.delivery_tag, requeue=True)
    eventually(lambda: depth(rabbit, prefix).dead == 1, timeout_s=60, what="its death")
    [letter] = dead_letters.look(rabbit, DetectSpan, prefix=prefix, limit=9)
    assert letter.cause == "delivery_limit"
    bury(rabbit, prefix, span(1), span(2))

    fates = list(dead_letters.replay(rabbit, DetectSpan, prefix=prefix))
    assert fates == [Fate.REPLAYED] * 3
    assert depth(rabbit, prefix).dead == 0
    method, properties, _ = take(rabbit, queue)
    assert not method.redelivered
    assert not [name for name in properties.headers if name.startswith("x-death")]
    assert properties.headers["x-delivery-count"] == 0
    assert properties.delivery_mode == 2
    rabbit.channel.basic_nack(method.delivery_tag, requeue=True)
    assert_live(rabbit, prefix, [0, 1, 2])


def test_replay_stops_at_its_limit_and_the_rest_keeps_its_order(rabbit: Any, prefix: str) -> None:
    bury(rabbit, prefix, UNREADABLE, span(0), span(1), span(2))
    fates = list(dead_letters.replay(rabbit, DetectSpan, prefix=prefix, limit=2))
    assert fates == [Fate.UNREADABLE, Fate.REPLAYED, Fate.REPLAYED]
    left = dead_letters.look(rabbit, DetectSpan, prefix=prefix, limit=9)
    assert [letter.nudge and letter.nudge.payload()["span_index"] for letter in left] == [None, 2]
    assert_live(rabbit, prefix, [0, 1])


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"\xff\x00", "not a dramatiq message"),
        (b"[]", "not a dramatiq message"),
        (
            b'{"queue_name":"q","actor_name":"detect_span","args":[],"kwargs":{"session_id":7,'
            b'"span_index":1},"options":{},"message_id":"m","message_timestamp":1e300}',
            "session_id",
        ),
        (
            b'{"queue_name":"q","actor_name":"detect_span","args":[1],"kwargs":{},"options":{},'
            b'"message_id":"m","message_timestamp":"x"}',
            "positional arguments",
        ),
        (
            b'{"queue_name":"q","actor_name":"shred","args":[],"kwargs":{},"options":{},'
            b'"message_id":"m","message_timestamp":1}',
            "not for detect_span",
        ),
        (
            b'{"queue_name":"q","actor_name":"detect_span","args":[],"kwargs":[],"options":{},'
            b'"message_id":"m","message_timestamp":1}',
            "object",
        ),
    ],
)
def test_what_cannot_be_read_stays_dead_until_it_is_dropped(
    rabbit: Any, prefix: str, body: bytes, problem: str
) -> None:
    queue = queue_of(DetectSpan, prefix)
    rabbit.declare_queue(queue, ensure=True)
    rabbit.channel.basic_publish("", xq_name(queue), body, mandatory=True)
    [letter] = dead_letters.look(rabbit, DetectSpan, prefix=prefix, limit=9)
    assert letter.nudge is None
    assert problem in (letter.problem or "")
    assert list(dead_letters.replay(rabbit, DetectSpan, prefix=prefix)) == [Fate.UNREADABLE]
    assert (depth(rabbit, prefix).ready, depth(rabbit, prefix).dead) == (0, 1)
    dropped = dead_letters.replay(rabbit, DetectSpan, prefix=prefix, drop_unreadable=True)
    assert list(dropped) == [Fate.DROPPED]
    assert (depth(rabbit, prefix).ready, depth(rabbit, prefix).dead) == (0, 0)


def test_a_queue_that_was_removed_is_made_again_for_the_replay(rabbit: Any, prefix: str) -> None:
    bury(rabbit, prefix, span(0))
    rabbit.channel.queue_delete(queue_of(DetectSpan, prefix))
    fresh = broker.setup(
        Settings(database_url="", amqp_url=url_of(rabbit), blob_url="", queue_prefix=prefix)
    )
    assert list(dead_letters.replay(fresh, DetectSpan, prefix=prefix)) == [Fate.REPLAYED]
    assert_live(rabbit, prefix, [0])
    fresh.close()


KILLED_BEFORE_ITS_ACK = """
import os, signal
from pika.adapters.blocking_connection import BlockingChannel
BlockingChannel.basic_ack = lambda *_args, **_more: os.kill(os.getpid(), signal.SIGKILL)
from services.cli.main import main
main(["queues", "replay"])
"""


def test_a_replay_that_is_killed_in_the_middle_loses_nothing(
    rabbit: Any, prefix: str, environment: dict[str, str]
) -> None:
    bury(rabbit, prefix, span(0), span(1))
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_ITS_ACK], check=False)
    assert killed.returncode == -signal.SIGKILL
    # The first is confirmed in its queue but still among the dead letters: it is in both.
    eventually(lambda: depth(rabbit, prefix).dead == 2, timeout_s=60, what="the letters back")
    assert depth(rabbit, prefix).ready == 1
    assert main(["queues", "replay"]) == 0
    assert_live(rabbit, prefix, [0, 0, 1])
    assert depth(rabbit, prefix).dead == 0


def test_dead_letters_are_bounded_in_number_and_in_time(rabbit: Any, prefix: str) -> None:
    queue = queue_of(DetectSpan, prefix)
    rabbit.declare_queue(queue, ensure=True)
    # RabbitMQ accepts a second declaration only with the same arguments.
    rabbit.channel.queue_declare(
        xq_name(queue),
        durable=True,
        arguments={"x-message-ttl": 604_800_000, "x-max-length": 10_000},
    )


def test_work_goes_on_where_an_earlier_release_bounded_them_otherwise(
    rabbit: Any, prefix: str
) -> None:
    queue = queue_of(DetectSpan, prefix)
    rabbit.channel.queue_declare(
        xq_name(queue), durable=True, arguments={"x-message-ttl": 604_800_000}
    )
    bury(rabbit, prefix, span(5))
    assert list(dead_letters.replay(rabbit, DetectSpan, prefix=prefix)) == [Fate.REPLAYED]
    assert_live(rabbit, prefix, [5])


class DeadAtFirstSight(Middleware):
    """Rejects every message on its first delivery, as a worker that cannot read it would."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()

    def before_process_message(
        self, _broker: dramatiq.Broker, message: dramatiq.MessageProxy
    ) -> None:
        what = (message.actor_name, json.dumps(message.kwargs, sort_keys=True))
        if what not in self.seen:
            self.seen.add(what)
            message.fail()
            raise SkipMessage


def test_a_session_whose_every_message_died_completes_and_replaying_changes_nothing(
    rabbit_settings: Settings, store: Store, environment: dict[str, str]
) -> None:
    settings = replace(rabbit_settings, lease_s=1.0, recovery_s=0.2, one_claim_s=0.0)
    consuming: Any = broker.setup(settings)
    runtime = Runtime(settings, consuming)
    first_sight = DeadAtFirstSight()
    consuming.add_middleware(first_sight)
    worker.declare(consuming, runtime)
    content = recordings.encode(recordings.long(2.5))
    session_id = uuid.uuid4()
    runtime.blobs.put(recording_key(session_id), content)
    with store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            file_name="a.flac",
            size_bytes=len(content),
            recording_key=recording_key(session_id),
        )
    runtime.publisher.send(ProcessAudioFile(session_id=session_id))
    working = dramatiq.Worker(consuming, worker_threads=1, worker_timeout=50)
    working.start()

    def state() -> str:
        with store.transaction() as tx:
            found = session_queries.get_session(tx, session_id)
        assert found is not None
        return found.state

    def rows() -> list[Any]:
        """Return the session's rows in the store, without the `pcm_key` that recovery clears."""
        with store.transaction() as tx:
            return [
                tx.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1")).all()  # noqa: S608
                for table in ("session_spans", "noise_detections", "processing_metrics")
            ] + [tx.execute(text("SELECT to_jsonb(t) - 'pcm_key' FROM audio_sessions t")).all()]

    def dead() -> int:
        found = queues.depths(consuming, prefix=settings.queue_prefix)
        return sum(each.dead for each in found)

    def idle() -> bool:
        found = queues.depths(consuming, prefix=settings.queue_prefix)
        return not any(each.ready for each in found)

    try:
        eventually(lambda: state() == "completed", what="the session")
        # Each of its seven messages died once: process, split, three spans, aggregate, analyze.
        eventually(lambda: dead() == 7, timeout_s=60, what="seven dead letters")
        assert len(first_sight.seen) == 7
        eventually(lambda: len(rows()[2]) == 7, what="the analysis, behind the session's end")
        eventually(idle, timeout_s=60)
        before = rows()
        assert main(["queues", "replay"]) == 0
        assert dead() == 0
        eventually(idle, timeout_s=20, what="the replayed messages to be handled")
    finally:
        working.stop()
    assert rows() == before
    assert dead() == 0
    consuming.close()
