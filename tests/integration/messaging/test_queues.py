"""The state of the queues, and the return of dead letters, on a real RabbitMQ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dramatiq
import pika
import pytest
import structlog
import structlog.testing
from dramatiq.common import xq_name
from dramatiq.middleware import Middleware, SkipMessage
from sqlalchemy import text

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging import broker, dead_letters, messages, queues
from actors.messaging.dead_letters import Fate
from actors.messaging.messages import DetectSpan, Nudge, ProcessAudioFile
from actors.messaging.queues import BrokerUnavailable, Depth
from db.blobs import recording_key
from db.queries import queue_queries, session_queries
from db.queue import claims
from db.queue.claims import Work
from db.settings import Settings
from db.store import Store
from services.cli.main import main
from tests.support import recordings, servers
from tests.support.clock import ask
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

UNREADABLE = {"session_id": "nobody"}


@pytest.fixture
def rabbit(rabbit_settings: Settings) -> Iterator[Any]:
    rabbit = broker.setup(rabbit_settings)
    yield rabbit
    rabbit.close()


@pytest.fixture
def prefix(rabbit_settings: Settings) -> str:
    return rabbit_settings.queue_prefix


@pytest.fixture
def environment(rabbit_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment that the ``clamor`` command reads."""
    given = {
        "DATABASE_URL": rabbit_settings.database_url,
        "AMQP_URL": rabbit_settings.amqp_url,
        "BLOB_URL": rabbit_settings.blob_url,
        "CLAMOR_QUEUE_PREFIX": rabbit_settings.queue_prefix,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def queue_of(nudge: type[Nudge], prefix: str) -> str:
    return messages.queue_name(nudge, prefix=prefix)


def span(index: int) -> DetectSpan:
    return DetectSpan(session_id=uuid.uuid4(), span_index=index)


def enqueue(rabbit: Any, prefix: str, nudge: type[Nudge], payload: dict[str, Any]) -> None:
    rabbit.enqueue(
        dramatiq.Message(
            queue_name=queue_of(nudge, prefix),
            actor_name=nudge.actor,
            args=(),
            kwargs=payload,
            options={},
        )
    )


def take(rabbit: Any, queue: str) -> tuple[Any, Any, bytes]:
    """Get the next message of a queue without acking it."""

    def got() -> tuple[Any, Any, bytes] | None:
        method, properties, body = rabbit.channel.basic_get(queue)
        return None if method is None else (method, properties, body)

    return eventually(got, timeout_s=10, what=f"a message in {queue}")


def bury(rabbit: Any, prefix: str, *nudges: Nudge | dict[str, Any]) -> None:
    """Send messages to the spans' queue and reject each, as a worker does with unreadable ones."""
    queue = queue_of(DetectSpan, prefix)
    for each in nudges:
        payload = each if isinstance(each, dict) else each.payload()
        enqueue(rabbit, prefix, DetectSpan, payload)
        method, _, _ = take(rabbit, queue)
        rabbit.channel.basic_nack(method.delivery_tag, requeue=False)
    # A queue dead-letters asynchronously.
    eventually(
        lambda: (
            rabbit.channel.queue_declare(xq_name(queue), passive=True).method.message_count
            >= len(nudges)
        ),
        timeout_s=10,
        what="the dead letters",
    )


def depth(rabbit: Any, prefix: str, nudge: type[Nudge] = DetectSpan) -> Depth:
    [found] = [each for each in queues.depths(rabbit, prefix=prefix) if each.nudge is nudge]
    return found


def assert_live(rabbit: Any, prefix: str, indexes: list[int]) -> None:
    """Check that the spans' queue holds messages of these spans in this order; empty it."""
    queue = queue_of(DetectSpan, prefix)
    bodies = [take(rabbit, queue)[2] for _ in indexes]
    assert [dramatiq.Message.decode(body).kwargs["span_index"] for body in bodies] == indexes
    assert rabbit.channel.basic_get(queue)[0] is None


def test_every_queue_is_told_and_none_is_made(rabbit: Any, prefix: str) -> None:
    found = queues.depths(rabbit, prefix=prefix)
    assert [each.nudge for each in found] == list(messages.ALL)
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
    eventually(lambda: depth(rabbit, prefix).ready == 3, timeout_s=10, what="three messages")
    consumer = rabbit.consume(queue_of(DetectSpan, prefix), prefetch=1)
    assert next(consumer) is not None
    eventually(lambda: depth(rabbit, prefix).ready == 2, timeout_s=10, what="one in its hands")
    found = depth(rabbit, prefix)
    consumer.close()
    assert (found.dead, found.consumers) == (2, 1)


def test_a_look_harms_no_dead_letter(rabbit: Any, prefix: str) -> None:
    """On a quorum queue each look would count as a delivery, up to the limit."""
    sent = [span(index) for index in range(3)]
    bury(rabbit, prefix, *sent)
    for _ in range(4 * broker.DELIVERY_LIMIT):
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
    for _ in range(broker.DELIVERY_LIMIT + 1):
        method, _, _ = take(rabbit, queue)
        rabbit.channel.basic_nack(method.delivery_tag, requeue=True)
    eventually(lambda: depth(rabbit, prefix).dead == 1, timeout_s=10, what="its death")
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
        Settings(database_url="", amqp_url=_url(rabbit), blob_url="", queue_prefix=prefix)
    )
    assert list(dead_letters.replay(fresh, DetectSpan, prefix=prefix)) == [Fate.REPLAYED]
    assert_live(rabbit, prefix, [0])
    fresh.close()


def _url(rabbit: Any) -> str:
    given = rabbit.parameters
    credentials = given.credentials
    return f"amqp://{credentials.username}:{credentials.password}@{given.host}:{given.port}"


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
    eventually(lambda: depth(rabbit, prefix).dead == 2, timeout_s=10, what="the letters back")
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
    settings = replace(rabbit_settings, lease_s=1.0, recovery_s=0.2)
    consuming: Any = broker.setup(settings)
    runtime = Runtime(settings, consuming)
    first_sight = DeadAtFirstSight()
    consuming.add_middleware(first_sight)
    worker.declare(consuming, runtime)
    content = recordings.encode(recordings.long(2.5))
    session_id = uuid.uuid4()
    runtime.blobs.put(recording_key(session_id), content)
    with store.transaction() as db:
        session_queries.add_session(
            db,
            id=session_id,
            file_name="a.flac",
            size_bytes=len(content),
            recording_key=recording_key(session_id),
        )
    runtime.publisher.send(ProcessAudioFile(session_id=session_id))
    working = dramatiq.Worker(consuming, worker_threads=1, worker_timeout=50)
    working.start()

    def state() -> str:
        with store.transaction() as db:
            found = session_queries.get_session(db, session_id)
        assert found is not None
        return found.state

    def rows() -> list[Any]:
        """Return the session's rows in the store, without the `pcm_key` that recovery clears."""
        with store.transaction() as db:
            return [
                db.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1")).all()  # noqa: S608
                for table in ("session_spans", "noise_detections", "processing_metrics")
            ] + [db.execute(text("SELECT to_jsonb(t) - 'pcm_key' FROM audio_sessions t")).all()]

    def dead() -> int:
        found = queues.depths(consuming, prefix=settings.queue_prefix)
        return sum(each.dead for each in found)

    def idle() -> bool:
        found = queues.depths(consuming, prefix=settings.queue_prefix)
        return not any(each.ready for each in found)

    try:
        eventually(lambda: state() == "completed", what="the session")
        # Each of its seven messages died once: process, split, three spans, aggregate, analyze.
        eventually(lambda: dead() == 7, timeout_s=10, what="seven dead letters")
        assert len(first_sight.seen) == 7
        eventually(lambda: len(rows()[2]) == 7, what="the analysis, behind the session's end")
        eventually(idle, timeout_s=10)
        before = rows()
        assert main(["queues", "replay"]) == 0
        assert dead() == 0
        eventually(idle, timeout_s=20, what="the replayed messages to be handled")
    finally:
        working.stop()
    assert rows() == before
    assert dead() == 0
    consuming.close()


def test_the_command_shows_and_replays(
    rabbit: Any, prefix: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["queues", "--json"]) == 0
    assert {line["dead"] for line in json.loads(capsys.readouterr().out)} == {0}
    sent = span(4)
    bury(rabbit, prefix, UNREADABLE, sent)

    assert main(["queues", "--json"]) == 1
    [line] = [line for line in json.loads(capsys.readouterr().out) if line["dead"]]
    assert 0 <= line.pop("oldest_dead_s") < 60
    assert line == {
        "queue": "audio.detect",
        "ready": 0,
        "unacked": None,
        "held": 0,
        "dead": 2,
        "consumers": 0,
        "oldest_s": None,
    }
    assert main(["queues"]) == 1
    assert "audio.detect" in capsys.readouterr().out

    assert main(["queues", "show", f"{prefix}.audio.detect", "--json"]) == 0
    unreadable, readable = json.loads(capsys.readouterr().out)
    assert "session_id" in unreadable["problem"]
    assert readable["says"] == sent.payload()
    assert main(["queues", "show", "audio.detect"]) == 0
    shown = capsys.readouterr().out
    assert "nobody" not in shown
    assert "span_index=4" in shown

    assert main(["queues", "replay", "audio.split"]) == 0
    assert capsys.readouterr().out == "there are no dead letters\n"
    assert main(["queues", "replay", "audio.detect"]) == 1
    assert capsys.readouterr().out.startswith("audio.detect: 1 replayed, 1 left in place")
    assert main(["queues", "replay", "--drop-unreadable"]) == 0
    assert main(["queues"]) == 0
    assert main(["queues", "replay", "audio.nothing"]) == 2
    assert "no such queue: 'audio.nothing'" in capsys.readouterr().err


def test_a_database_that_is_away_leaves_what_the_broker_knows(
    rabbit: Any,
    prefix: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bury(rabbit, prefix, span(0))
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres@127.0.0.1:9/none")
    assert main(["queues", "--json"]) == 1
    told = capsys.readouterr()
    assert "the database does not answer" in told.err
    [line] = [line for line in json.loads(told.out) if line["dead"]]
    assert (line["held"], line["oldest_s"]) == (None, None)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("amqp://u:topsecret@127.0.0.1:9/", "RabbitMQ at 127.0.0.1:9 does not answer"),
        ("amqp://u:topsecret@nowhere.invalid/", "RabbitMQ at nowhere.invalid:5672 does not answer"),
        ("amqp://u:top/secret@127.0.0.1/", "AMQP_URL cannot be read"),
        ("topsecret", "AMQP_URL cannot be read"),
        ("memory://", "/metrics"),
    ],
)
def test_a_broker_that_cannot_be_asked_is_told_without_its_password(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    reason: str,
) -> None:
    monkeypatch.setenv("AMQP_URL", url)
    for command in (["queues"], ["queues", "replay"], ["queues", "show", "audio.detect"]):
        assert main(command) == 2
        told = capsys.readouterr()
        assert reason in told.err
        assert "secret" not in told.out + told.err


def test_a_wrong_password_and_a_wrong_virtual_host_are_told_apart(
    rabbit: Any, rabbit_settings: Settings
) -> None:
    given = rabbit.parameters
    for url, reason in (
        (f"amqp://nobody:wrong@{given.host}:{given.port}", "the user or the password"),
        (f"{_url(rabbit)}/{uuid.uuid4()}", "the virtual host"),
    ):
        other = broker.setup(replace(rabbit_settings, amqp_url=url))
        with pytest.raises(BrokerUnavailable, match=reason):
            queues.depths(other, prefix="x")


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
    with store.transaction() as db:
        assert set(queue_queries.backlogs(db)) == set(queue_queries.KINDS)
        for each in ids:
            session_queries.add_session(
                db, id=each, file_name="a", size_bytes=1, recording_key=recording_key(each)
            )
        db.execute(
            text("UPDATE audio_sessions SET due_at = now() - interval '100 s' WHERE id = :id"),
            {"id": ids[0]},
        )
        db.execute(
            text(
                "UPDATE audio_sessions SET state = 'detecting', spans_total = 1,"
                " due_at = now() - interval '9 h' WHERE id = :id"
            ),
            {"id": ids[1]},
        )
        session_queries.add_spans(db, ids[1], [(0, 0, 10), (1, 10, 20)])
    with store.transaction() as db:
        found = queue_queries.backlogs(db)
        assert found["queued"].oldest_s == pytest.approx(100, abs=20)
        assert found["queued"].held == 0
        # A session in `detecting` is not itself a work item.
        assert found["span"].oldest_s == pytest.approx(0, abs=20)
        assert claims.this(Work(session_id=ids[0], state="queued"), db, lease_s=30)
        span = Work(session_id=ids[1], span_index=1, state="pending")
        assert claims.this(span, db, lease_s=30)
    with store.transaction() as db:
        found = queue_queries.backlogs(db)
        assert found["queued"].held == 1
        assert found["queued"].oldest_s == pytest.approx(0, abs=20)
        assert found["span"].held == 1
        assert (found["training"].held, found["training"].oldest_s) == (0, None)
        assert queue_queries.count_unfinished(db) == {
            "queued": 2,
            "splitting": 0,
            "detecting": 1,
            "aggregating": 0,
        }
        assert session_queries.cancel_session(db, ids[1])
    with store.transaction() as db:
        assert queue_queries.backlogs(db)["span"].held == 0
        assert queue_queries.count_finished(db) == {
            "completed": 0,
            "partial": 0,
            "failed": 0,
            "cancelled": 1,
        }


def test_the_hourly_look_warns_of_dead_letters(
    rabbit: Any, prefix: str, rabbit_settings: Settings
) -> None:
    runtime = Runtime(rabbit_settings, rabbit)
    with structlog.testing.capture_logs() as quiet:
        well = ask(runtime, messages.CheckHealth()).result
    bury(rabbit, prefix, UNREADABLE)
    with structlog.testing.capture_logs() as warned:
        dead = ask(runtime, messages.CheckHealth()).result
    nobody = replace(rabbit_settings, amqp_url="amqp://guest:guest@127.0.0.1:9")
    cut_off = Runtime(nobody, broker.setup(nobody))
    with structlog.testing.capture_logs() as away:
        unwell = ask(cut_off, messages.CheckHealth()).result
    cut_off.close()
    runtime.close()
    assert well is not None
    assert (well["healthy"], well["checks"]["broker"]["dead_letters"]) == (True, {})
    assert not [each for each in quiet if each["event"] == "dead_letters"]
    assert dead is not None
    assert (dead["healthy"], dead["checks"]["broker"]["dead_letters"]) == (
        True,
        {"audio.detect": 1},
    )
    [line] = [each for each in warned if each["event"] == "dead_letters"]
    assert (line["log_level"], line["queues"]) == ("warning", {"audio.detect": 1})
    assert unwell is not None
    assert unwell["faults"] == {"broker": "RabbitMQ at 127.0.0.1:9 does not answer"}
    [line] = [each for each in away if each["event"] == "unhealthy"]
    assert (line["log_level"], line["faults"]) == ("error", unwell["faults"])
