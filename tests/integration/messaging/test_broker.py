"""How RabbitMQ and dramatiq handle a message, and how Clamor configures them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from typing import Any

import pika
import pytest
from dramatiq.brokers.stub import StubBroker

from actors.messaging import broker, kinds, messages, rabbitmq
from actors.messaging.broker import Publisher
from actors.messaging.messages import DetectSpan, SplitRecording
from db.settings import Settings
from services.processes.server import free_port
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration


def span(index: int) -> DetectSpan:
    return DetectSpan(session_id=uuid.uuid4(), span_index=index)


def queue_of(nudge: type[messages.Nudge], settings: Settings) -> str:
    return messages.queue_name(nudge, prefix=settings.queue_prefix)


def test_a_sent_message_is_confirmed_and_read_as_it_was(rabbit_settings: Settings) -> None:
    rabbit: Any = broker.setup(rabbit_settings)
    sent = span(3)
    publisher = Publisher(rabbit, prefix=rabbit_settings.queue_prefix)
    assert publisher.send(sent).result(timeout=20)
    consumer = rabbit.consume(queue_of(DetectSpan, rabbit_settings), timeout=5_000)
    message = next(consumer)
    assert DetectSpan.parse(message.kwargs) == sent
    consumer.ack(message)
    consumer.close()
    publisher.close()
    rabbit.close()


def test_queues_are_quorum_queues_with_a_delivery_limit(rabbit_settings: Settings) -> None:
    rabbit: Any = broker.setup(rabbit_settings)
    queue = queue_of(SplitRecording, rabbit_settings)
    rabbit.declare_queue(queue, ensure=True)
    for _ in range(2):
        # RabbitMQ accepts a second declaration only with the same arguments.
        rabbit.channel.queue_declare(
            queue,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": rabbitmq.DELIVERY_LIMIT,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": f"{queue}.XQ",
            },
        )
    rabbit.close()


def test_an_ack_after_a_reconnect_does_not_hit_another_message(rabbit_settings: Settings) -> None:
    """Delivery tags start again at 1: an ack of the old "1" must not remove the new "1"."""
    rabbit: Any = broker.setup(rabbit_settings)
    queue = queue_of(DetectSpan, rabbit_settings)
    for index in range(2):
        messages.send(span(index), broker=rabbit, prefix=rabbit_settings.queue_prefix)
    consumer = rabbit.consume(queue, prefetch=1, timeout=20_000)
    held = next(consumer)
    held.channel.connection.add_callback_threadsafe(held.channel.connection.close)

    delivered = eventually(partial(next, consumer), what="a message of the next connection")
    assert delivered.tag == held.tag == 1
    consumer.ack(held)
    consumer.nack(held)
    consumer.close()

    last = rabbit.consume(queue, prefetch=2, timeout=20_000)
    still_there = {next(last).kwargs["span_index"] for _ in range(2)}
    assert still_there == {0, 1}
    last.close()
    rabbit.close()


def test_a_broker_that_is_away_costs_the_caller_nothing(memory_settings: Settings) -> None:
    nobody = replace(memory_settings, amqp_url=f"amqp://guest:guest@127.0.0.1:{free_port()}/")
    publisher = Publisher(broker.setup(nobody), prefix="x")
    assert not publisher.send(span(0), span(1)).result(timeout=30)
    publisher.close()


def test_the_queue_is_made_again_when_it_was_removed(rabbit_settings: Settings) -> None:
    rabbit: Any = broker.setup(rabbit_settings)
    queue = queue_of(DetectSpan, rabbit_settings)
    publisher = Publisher(rabbit, prefix=rabbit_settings.queue_prefix)
    publisher.send(span(0)).result(timeout=20)
    connection = pika.BlockingConnection(pika.URLParameters(rabbit_settings.amqp_url))
    connection.channel().queue_delete(queue)
    connection.close()
    assert publisher.send(span(1)).result(timeout=20)

    def counted() -> bool:
        return bool(rabbit.count(queue)[0] == 1)

    eventually(counted, timeout_s=60, what="the message in the new queue")
    publisher.close()
    rabbit.close()


def test_memory_broker_has_the_same_queues(memory_settings: Settings) -> None:
    memory = broker.setup(memory_settings)
    assert isinstance(memory, StubBroker)
    assert {queue_of(kind.message, memory_settings) for kind in kinds.KINDS} <= set(memory.queues)
