"""Inspect and replay dead letters.

A message is dead-lettered when no worker can read it, or when it was delivered too often without
an ack. No work is lost with it: recovery nudges its row again. Replaying a message is therefore as
harmless as losing it, and so is doing either twice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import dramatiq
import msgspec
import pika
from dramatiq.common import xq_name
from dramatiq.errors import DecodeError
from pika.adapters.blocking_connection import BlockingChannel

from actors.messaging import messages, queues
from actors.messaging.messages import Nudge


class Unreadable(Exception):
    """A message does not match the schema of this release. The text says why."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One dead message."""

    #: None if this release cannot read it; ``problem`` says why.
    nudge: Nudge | None
    problem: str | None
    sent_at: datetime | None
    #: When and why it was dead-lettered: ``rejected`` (by a worker that cannot read it),
    #: ``delivery_limit`` (workers died while handling it), ``maxlen`` or ``expired``.
    died_at: datetime | None
    cause: str | None


def read(nudge: type[Nudge], body: bytes) -> Nudge:
    """Decode a message of a queue; raise :class:`Unreadable` if that fails."""
    try:
        message = dramatiq.Message.decode(body)
    except DecodeError:
        raise Unreadable("it is not a dramatiq message") from None
    if message.actor_name != nudge.actor:
        raise Unreadable(f"it is not for {nudge.actor}")
    if message.args:
        raise Unreadable("it has positional arguments")
    try:
        return nudge.parse(message.kwargs)
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None


def look(
    broker: dramatiq.Broker, nudge: type[Nudge], *, prefix: str, limit: int
) -> list[DeadLetter]:
    """Return the oldest dead letters of a queue. They stay in the queue, in their order.

    Each is fetched and requeued, which a dead-letter queue does not count as a delivery (see
    :class:`actors.messaging.rabbitmq.QuorumBroker`). Other clients do not see them meanwhile.

    Raises
    ------
    BrokerUnavailable
    """
    queue = xq_name(messages.queue_name(nudge, prefix=prefix))
    with queues.connected(broker) as connection:
        there, _ = queues.count(connection, queue)
        channel = connection.channel()
        found, held = [], None
        for tag, properties, body in _taken(channel, queue, min(there, limit)):
            held = tag
            found.append(_letter(nudge, properties, body))
        _put_back(channel, queue, held)
    return found


class Fate(StrEnum):
    """The result of replaying a dead letter."""

    REPLAYED = "replayed"
    #: No actor of this release can read it; it stays in the dead-letter queue.
    UNREADABLE = "unreadable"
    DROPPED = "dropped"


def replay(
    broker: dramatiq.Broker,
    nudge: type[Nudge],
    *,
    prefix: str,
    limit: int | None = None,
    drop_unreadable: bool = False,
) -> Generator[Fate, None, None]:
    """Replay at most ``limit`` dead letters of a queue, the oldest first; yield the fate of each.

    A letter leaves the dead-letter queue only after RabbitMQ has confirmed it in its queue. If
    this process or the broker stops in between, it is in both, and handling it twice changes
    nothing. It is sent without its ``x-death`` headers, so that deliveries are counted from zero.
    Messages dead-lettered meanwhile are not replayed: a letter that dies again at once does not
    keep this running for ever.

    Raises
    ------
    BrokerUnavailable
    """
    queue = messages.queue_name(nudge, prefix=prefix)
    with queues.connected(broker) as connection:
        # The queue may have been removed; a letter needs a destination.
        broker.declare_queue(queue, ensure=True)  # type: ignore[call-arg]  # (RabbitmqBroker's)
        there, _ = queues.count(connection, xq_name(queue))
        channel = connection.channel()
        channel.confirm_delivery()
        held, replayed = None, 0
        try:
            for tag, _, body in _taken(channel, xq_name(queue), there):
                if replayed == limit:
                    held = tag
                    return
                if _readable(nudge, body):
                    fresh = pika.BasicProperties(delivery_mode=2)
                    channel.basic_publish("", queue, body, fresh, mandatory=True)
                    channel.basic_ack(tag)
                    replayed += 1
                    yield Fate.REPLAYED
                elif drop_unreadable:
                    channel.basic_ack(tag)
                    yield Fate.DROPPED
                else:
                    # Not acked, so that the next one can be fetched.
                    held = tag
                    yield Fate.UNREADABLE
        finally:
            if channel.is_open:
                _put_back(channel, xq_name(queue), held)


def _taken(
    channel: BlockingChannel, queue: str, most: int
) -> Iterator[tuple[int, pika.BasicProperties, bytes]]:
    """Fetch messages from a queue, the oldest first. Each is held until acked or requeued."""
    for _ in range(most):
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return
        yield method.delivery_tag, properties, body


def _put_back(channel: BlockingChannel, queue: str, last: int | None) -> None:
    """Requeue the held messages, up to the last one fetched, in their places."""
    if last is not None:
        channel.basic_nack(last, multiple=True, requeue=True)
        # The reply comes after the requeue, so the next count includes them.
        channel.queue_declare(queue, passive=True)


def _readable(nudge: type[Nudge], body: bytes) -> bool:
    try:
        read(nudge, body)
    except Unreadable:
        return False
    return True


def _letter(nudge: type[Nudge], properties: pika.BasicProperties, body: bytes) -> DeadLetter:
    said, problem = None, None
    try:
        said = read(nudge, body)
    except Unreadable as error:
        problem = str(error)
    death: Mapping[str, Any] = next(iter((properties.headers or {}).get("x-death", ())), {})
    return DeadLetter(
        nudge=said,
        problem=problem,
        sent_at=_sent_at(body),
        died_at=death.get("time"),
        cause=death.get("reason"),
    )


def _sent_at(body: bytes) -> datetime | None:
    try:
        timestamp_ms = dramatiq.Message.decode(body).message_timestamp
        return datetime.fromtimestamp(timestamp_ms / 1_000, UTC)
    except (DecodeError, TypeError, ValueError, OverflowError, OSError):
        # A message put there by hand must not make the inspection fail.
        return None
