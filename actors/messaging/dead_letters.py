"""Dead letters: what they say, and how they come back.

A message dies when no worker can read it, or when it was delivered too often without an answer.
No work dies with it: its row is found quiet and nudged again. Bringing a message back is therefore
as harmless as losing it, and so is doing either twice.
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
    """A message is none of this release's contract; the text says why."""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """What is known of one dead message."""

    #: None if this release cannot read it; ``problem`` says why.
    nudge: Nudge | None
    problem: str | None
    #: When it was sent.
    sent_at: datetime | None
    #: When it died, and of what: ``rejected`` (by a worker that cannot read it),
    #: ``delivery_limit`` (workers died over it), ``maxlen`` or ``expired``.
    died_at: datetime | None
    cause: str | None


def read(nudge: type[Nudge], body: bytes) -> Nudge:
    """What a message of a queue says; raises :class:`Unreadable`."""
    try:
        message = dramatiq.Message.decode(body)
    except DecodeError:
        raise Unreadable("it is no message of dramatiq") from None
    if message.actor_name != nudge.actor:
        raise Unreadable(f"it is not for {nudge.actor}")
    if message.args:
        raise Unreadable("it has arguments without a name")
    try:
        return nudge.parse(message.kwargs)
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None


def look(
    broker: dramatiq.Broker, nudge: type[Nudge], *, prefix: str, limit: int
) -> list[DeadLetter]:
    """The oldest dead letters of a queue; they stay where they are, in their order.

    Each is taken and put back, which the queue of dead letters does not count
    (see :class:`actors.messaging.broker.QuorumBroker`). For that moment nobody else finds them
    there.

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
    """What became of a dead letter that was to be brought back."""

    REPLAYED = "replayed"
    #: No actor of this release can read it; it stays where it is.
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
    """Bring at most ``limit`` dead letters of a queue back, the oldest first; the fate of each.

    A letter leaves the dead ones only once RabbitMQ has confirmed it in its queue: whoever stops
    in between, this process or the broker, leaves it in both, and handling it twice changes
    nothing. It goes out as it was first sent, without the marks of its death, so that deliveries
    are counted anew. What dies meanwhile is left for another time: a letter that dies again at
    once does not keep this going for ever.

    Raises
    ------
    BrokerUnavailable
    """
    queue = messages.queue_name(nudge, prefix=prefix)
    with queues.connected(broker) as connection:
        # Somebody may have removed the queue; a letter must have a place to go to.
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
                    # Held, so that the next one can be reached.
                    held = tag
                    yield Fate.UNREADABLE
        finally:
            if channel.is_open:
                _put_back(channel, xq_name(queue), held)


def _taken(
    channel: BlockingChannel, queue: str, most: int
) -> Iterator[tuple[int, pika.BasicProperties, bytes]]:
    """Take messages off a queue, the oldest first; each is held until it is acked or put back."""
    for _ in range(most):
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return
        yield method.delivery_tag, properties, body


def _put_back(channel: BlockingChannel, queue: str, last: int | None) -> None:
    """Put what is held back in its place, up to the last that was taken."""
    if last is not None:
        channel.basic_nack(last, multiple=True, requeue=True)
        # The answer comes after that was done, so whoever counts next finds them there.
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
        # Nothing that somebody put there by hand may stand in the way of a look.
        return None
