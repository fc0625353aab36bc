"""RabbitMQ as Clamor uses it: quorum queues, confirms, and two connections a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import dramatiq
import pika
import pika.exceptions
import structlog
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.common import xq_name
from dramatiq.errors import ConnectionClosed

from actors.messaging.connection import CONNECTION_ERRORS, ConsumingThread
from actors.messaging.deadlines import NoAnswer, PromptConnection
from actors.messaging.polling import POLLED_QUEUE, PollingConsumer, TakeDue

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: RabbitMQ dead-letters a message that was delivered this often without an ack. The row that it
#: names is not lost: claims are counted in Postgres, and recovery nudges.
DELIVERY_LIMIT = 5
#: How long a dead letter is kept, and how many per queue; the oldest are dropped first. A week
#: outlasts an operator's holiday. The number is bounded because a release that cannot read its
#: messages makes one each time recovery nudges. Dropping one loses no row, only the evidence.
DEAD_LETTER_TTL_MS = 7 * 24 * 3_600 * 1_000
DEAD_LETTERS_KEPT = 10_000
#: A publish is tried this often, the second time over a new connection.
TRIES = 2
#: A broker that was silent would be silent over a new connection, too.
SILENCE = (NoAnswer, pika.exceptions.ConnectionBlockedTimeout)
#: The code of AMQP for a queue that does not exist.
NOT_FOUND = 404


class QuorumBroker(RabbitmqBroker):
    """RabbitMQ with quorum queues, publisher confirms, and one connection for all consumers.

    While it cannot be reached, workers that called :meth:`poll` consume due rows instead. There are
    no delay queues, since nothing is delayed: retries are in Postgres.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._take_due: TakeDue | None = None
        self._consuming = ConsumingThread(self)
        self._noting = threading.Lock()
        self._consumes = self._publishes = True
        #: When the broker went away, by the monotonic clock.
        self._away_since: float | None = None

    def poll(self, take: TakeDue) -> None:
        """Let the worker of this process consume due rows while the broker is away."""
        self._take_due = take
        # The worker starts a consumer for each queue that it sees declared.
        self.emit_after("declare_queue", POLLED_QUEUE)

    @property
    def is_away(self) -> bool:
        """Whether this process could not consume or publish when it last tried.

        A broker that has raised an alarm delivers messages and takes none.
        """
        return not (self._consumes and self._publishes)

    @property
    def can_publish(self) -> bool:
        """Whether this process could publish when it last tried, or has consumed since."""
        return self._publishes

    @property
    def away_s(self) -> float:
        """For how long the broker has been away; 0 if it is not."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5_000) -> Consumer:
        """Return the consumer of a queue. Messages come once the broker is there."""
        timeout_s = timeout / 1_000
        if queue_name == POLLED_QUEUE:
            assert self._take_due is not None
            return PollingConsumer(self._take_due, lambda: self.is_away, timeout_s=timeout_s)
        return self._consuming.consume(queue_name, prefetch=prefetch, timeout_s=timeout_s)

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        """Publish a message over the connection of the current thread, and await its confirmation.

        Raises
        ------
        ConnectionClosed
            If the broker is silent, or does not accept it over a new connection.
        """
        if delay is not None:
            raise ValueError("messages are not delayed: set `due_at` of the row instead")
        self._confirmed(partial(self._publish, message))
        return message

    def count(self, queue_name: str) -> tuple[int, int]:
        """Return how many messages wait in a queue, and how many consumers it has.

        Raises
        ------
        ConnectionClosed
            If the broker is silent, or does not answer over a new connection.
        """
        return self._confirmed(partial(self._count, queue_name))

    def _confirmed(self, do: Callable[[], T]) -> T:
        """Do something over the connection of this thread; if that was lost, over a new one."""
        for _ in range(TRIES):
            is_new = not self.has_connection()
            try:
                result = do()
            except pika.exceptions.UnroutableError as error:
                # The queue was removed, and is declared again; its connection is fine.
                failure: Exception = error
            except CONNECTION_ERRORS as error:
                del self.connection
                failure = error
                if is_new or isinstance(error, SILENCE):
                    break
            else:
                self.note(publishes=True)
                return result
        self.note(publishes=False, error=type(failure).__name__)
        raise ConnectionClosed(failure) from failure  # type: ignore[no-untyped-call]

    def _publish(self, message: dramatiq.Message[Any]) -> None:
        self.declare_queue(message.queue_name, ensure=True)
        self.emit_before("enqueue", message, None)
        try:
            self.channel.basic_publish(
                exchange="",
                routing_key=message.queue_name,
                body=message.encode(),
                properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
                mandatory=True,
            )
        except pika.exceptions.UnroutableError:
            self.queues_pending.add(message.queue_name)
            raise
        self.emit_after("enqueue", message, None)

    def note(
        self,
        *,
        consumes: bool | None = None,
        publishes: bool | None = None,
        error: str | None = None,
    ) -> None:
        """Note whether this process consumes and publishes; log when the broker goes and returns.

        Once the consumers are back, publishing is tried again; it fails at once if it still does.
        """
        with self._noting:
            was_away = self.is_away
            if consumes and not self._consumes:
                publishes = True
            self._consumes = self._consumes if consumes is None else consumes
            self._publishes = self._publishes if publishes is None else publishes
            if self.is_away == was_away:
                return
            if self.is_away:
                self._away_since = time.monotonic()
                log.warning("broker_away", error=error)
            else:
                log.warning("broker_back", away_s=round(self.away_s, 1))
                self._away_since = None

    def close(self) -> None:
        """Close every connection, also those of threads that have ended."""
        self._consuming.close()
        # dramatiq iterates over the sets that threads change.
        self.channels, self.connections = set(self.channels), set(self.connections)
        super().close()

    @property
    def connection(self) -> pika.BlockingConnection:
        """The connection of the current thread. The first read opens it."""
        connection: pika.BlockingConnection | None = getattr(self.state, "connection", None)
        if connection is None:
            connection = self.state.connection = PromptConnection(self.parameters)
            self.connections.add(connection)
        return connection

    @connection.deleter
    def connection(self) -> None:
        """Forget the connection of the current thread, whatever state it is in."""
        own = vars(self.state)
        self.channels.discard(own.pop("channel", None))
        connection = own.pop("connection", None)
        if connection is not None:
            self.connections.discard(connection)
            with suppress(*CONNECTION_ERRORS):
                connection.close()

    # --- declarations --------------------------------------------------------------------------

    def has_connection(self) -> bool:
        """Return whether the current thread has a connection that was not found to be closed."""
        return getattr(self.state, "connection", None) is not None

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue and its dead-letter queue; on the server, too, if ``ensure``.

        Raises
        ------
        pika.exceptions.AMQPError
            If that fails.
        """
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.queues_pending.add(queue_name)
            self.emit_after("declare_queue", queue_name)
        if ensure and queue_name in self.queues_pending:
            self._declare_queue(queue_name)  # type: ignore[no-untyped-call]
            self._declare_xq_queue(queue_name)
            self.queues_pending.discard(queue_name)

    def _count(self, queue_name: str) -> tuple[int, int]:
        try:
            counted = self.channel.queue_declare(queue_name, passive=True).method
        except pika.exceptions.ChannelClosedByBroker as error:
            del self.channel
            if error.reply_code != NOT_FOUND:
                raise
            self.queues_pending.add(queue_name)
            return 0, 0
        return counted.message_count, counted.consumer_count

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments = super()._build_queue_arguments(queue_name)  # type: ignore[no-untyped-call]
        return dict(arguments) | {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}

    def _declare_xq_queue(self, queue_name: str) -> Any:
        """Declare the dead-letter queue.

        A classic queue on purpose: a quorum queue counts every inspection of a message (get and
        requeue) as a delivery, and drops the message at the delivery limit.
        """
        try:
            return self.channel.queue_declare(
                queue=xq_name(queue_name),
                durable=True,
                arguments={
                    "x-message-ttl": DEAD_LETTER_TTL_MS,
                    "x-max-length": DEAD_LETTERS_KEPT,
                },
            )
        except pika.exceptions.ChannelClosedByBroker as error:
            # An earlier release declared it with other bounds, which cannot be changed, or its
            # only node is down. Work does not wait for the dead-letter queue.
            log.warning("dead_letter_queue_not_declared", queue=queue_name, code=error.reply_code)
            del self.channel
            return None
