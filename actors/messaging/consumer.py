"""The messages of one queue, between the thread of the connection and the one that works."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dramatiq
import pika.exceptions
import structlog
from dramatiq.broker import Consumer
from dramatiq.errors import DecodeError
from pika.adapters.blocking_connection import BlockingChannel

if TYPE_CHECKING:
    from actors.messaging.connection import ConsumingThread

log = structlog.get_logger(__name__)

#: How long the close of a consumer waits for its acks to be sent.
CLOSE_S = 5.0


class Delivered(dramatiq.MessageProxy):
    """A message with the channel that delivered it, and its number there."""

    def __init__(
        self, message: dramatiq.Message[Any], *, channel: BlockingChannel, tag: int
    ) -> None:
        super().__init__(message)
        self.channel = channel
        self.tag = tag


class QueueConsumer(Consumer):
    """Consumes one queue over a channel of the connection of its process.

    A lost connection is the thread's to mend: meanwhile there are no messages. RabbitMQ counts
    delivery tags from 1 on every channel, so a message is acked only on the channel that delivered
    it. If that is closed, RabbitMQ delivers the message again, and its second handling finds the
    work claimed or done.
    """

    def __init__(
        self, thread: ConsumingThread, queue_name: str, *, prefetch: int, timeout_s: float
    ) -> None:
        self.queue_name = queue_name
        self._thread = thread
        self._prefetch = prefetch
        self._timeout_s = timeout_s
        self._arrived: queue.SimpleQueue[Delivered] = queue.SimpleQueue()
        self._channel: BlockingChannel | None = None

    # --- the thread that works -----------------------------------------------------------------

    def __next__(self) -> Delivered | None:
        try:
            message = self._arrived.get(timeout=self._timeout_s)
        except queue.Empty:
            return None
        # RabbitMQ delivers those of a lost channel again.
        return message if message.channel is self._channel else None

    def ack(self, message: Any) -> None:
        """Acknowledge a message; RabbitMQ removes it."""
        self._thread.submit(self._settle, message, True)

    def nack(self, message: Any) -> None:
        """Reject a message; RabbitMQ dead-letters it."""
        self._thread.submit(self._settle, message, False)

    def requeue(self, messages: Iterable[Any]) -> None:
        """Do nothing: messages that are not acked return when the channel closes."""

    def close(self) -> None:
        """Send the acks that are waiting, and consume no more."""
        with suppress(TimeoutError, CancelledError):
            self._thread.submit(self._thread.leave, self).result(CLOSE_S)

    # --- the thread of the connection ----------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether messages arrive."""
        return self._channel is not None and self._channel.is_open

    def open(self, channel: BlockingChannel) -> None:
        """Consume the queue over a channel."""
        channel.basic_qos(prefetch_count=self._prefetch)
        channel.add_on_cancel_callback(self._cancelled)
        channel.basic_consume(self.queue_name, self._take)
        self._channel = channel

    def close_channel(self) -> None:
        """Return the messages that are not acked to their queue."""
        if self._channel is not None and self._channel.is_open:
            self._channel.close()
        self._channel = None

    def _take(self, channel: BlockingChannel, method: Any, _properties: Any, body: bytes) -> None:
        try:
            message = dramatiq.Message.decode(body)
        except DecodeError:
            log.warning("message_not_decoded", queue=self.queue_name)
            channel.basic_nack(method.delivery_tag, requeue=False)
            return
        self._arrived.put(Delivered(message, channel=channel, tag=method.delivery_tag))

    def _cancelled(self, _frame: object) -> None:
        """Subscribe again: the queue was removed, or its leader has changed."""
        log.info("consumer_cancelled", queue=self.queue_name)
        with suppress(pika.exceptions.AMQPError):
            self.close_channel()

    def _settle(self, message: Delivered, handled: bool) -> None:
        if not message.channel.is_open:
            log.info("ack_of_older_connection_dropped", message_id=message.message_id)
        elif handled:
            message.channel.basic_ack(message.tag)
        else:
            message.channel.basic_nack(message.tag, requeue=False)
