"""Messages that RabbitMQ gave up."""

from __future__ import annotations

import uuid
from typing import Any

import dramatiq
from dramatiq.common import xq_name

from actors.messaging import messages, queues
from actors.messaging.messages import DetectSpan, Nudge
from actors.messaging.queues import Depth
from tests.support.cluster import eventually

UNREADABLE = {"session_id": "nobody"}


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

    return eventually(got, timeout_s=60, what=f"a message in {queue}")


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
        timeout_s=60,
        what="the dead letters",
    )


def depth(rabbit: Any, prefix: str, nudge: type[Nudge] = DetectSpan) -> Depth:
    [found] = [each for each in queues.depths(rabbit, prefix=prefix) if each.nudge is nudge]
    return found


def url_of(rabbit: Any) -> str:
    given = rabbit.parameters
    credentials = given.credentials
    return f"amqp://{credentials.username}:{credentials.password}@{given.host}:{given.port}"
