"""The broker, its middleware in order, and the publisher.

Importing this module opens no connection. The HTTP process uses it too, so it stays light.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import dramatiq
import msgspec
import pika
import structlog
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import MAX_ENQUEUE_ATTEMPTS, RabbitmqBroker
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer as RabbitmqConsumer
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import xq_name
from dramatiq.middleware import Middleware, ShutdownNotifications, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.messaging import messages
from actors.messaging.polling import POLLED_QUEUE, PollingConsumer, TakeDue
from db.settings import Settings

log = structlog.get_logger(__name__)

#: A worker whose native code holds the GIL sends no heartbeat for a while; RabbitMQ drops a
#: connection after two missed ones. Shorter notices a dead peer sooner.
HEARTBEAT_S = 60
#: While RabbitMQ raises an alarm, a confirmed publish hangs. It is given up after about this time,
#: and recovery sends the message again. A stopping process waits for it.
BLOCKED_TIMEOUT_S = 10
SOCKET_TIMEOUT_S = 5
#: RabbitMQ dead-letters a message that was delivered this often without an ack. The row that it
#: names is not lost: claims are counted in Postgres, and recovery nudges.
DELIVERY_LIMIT = 5
#: How long a dead letter is kept, and how many per queue; the oldest are dropped first. A week
#: outlasts an operator's holiday. The number is bounded because a release that cannot read its
#: messages makes one each time recovery nudges. Dropping one loses no row, only the evidence.
DEAD_LETTER_TTL_MS = 7 * 24 * 3_600 * 1_000
DEAD_LETTERS_KEPT = 10_000
#: Threads that publish. Each keeps its connection open permanently.
PUBLISHER_THREADS = 2


def middleware() -> list[Middleware]:
    """Return the middleware, in order.

    Dramatiq's own Retries, Pipelines, GroupCallbacks and AgeLimit are left out on purpose:
    retries live in Postgres, and these would swallow a publish that fails.
    """
    return [
        # Interrupts an actor past its time limit, as far as Python code can be interrupted.
        TimeLimit(),
        # Raises in an actor when the worker shuts down.
        ShutdownNotifications(),
        # Dead-letters unreadable messages, so that they can be inspected.
        RejectUnreadable(),
        # Gives periodic actors their schedule. A tick later than this is dropped; recovery or
        # the next tick makes up for it.
        PeriodiqMiddleware(skip_delay=30),
    ]


class RejectUnreadable(Middleware):
    """Rejects a message that does not match its actor's schema.

    Every other failure is acked: the work item is in Postgres, and recovery nudges.
    """

    def after_process_message(
        self,
        _broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: object = None,
        exception: BaseException | None = None,
    ) -> None:
        if isinstance(exception, msgspec.ValidationError):
            message.fail()


class OwningConsumer(RabbitmqConsumer):
    """A consumer that acks only messages which it delivered itself.

    RabbitMQ counts delivery tags from 1 on every channel. After a reconnect dramatiq still holds
    messages of the old channel, and their acks would hit new messages with the same tags, which
    would be lost. A message of an older consumer is therefore never acked: RabbitMQ delivers it
    again, and its second handling finds the work claimed or done.
    """

    def __next__(self) -> Any:
        message = super().__next__()  # type: ignore[no-untyped-call]
        if message is not None:
            message.consumer = self
        return message

    def ack(self, message: Any) -> None:
        if self._owns(message):
            super().ack(message)  # type: ignore[no-untyped-call]

    def nack(self, message: Any) -> None:
        if self._owns(message):
            super().nack(message)  # type: ignore[no-untyped-call]

    def _owns(self, message: Any) -> bool:
        if getattr(message, "consumer", None) is self:
            return True
        log.info("ack_of_older_connection_dropped", message_id=message.message_id)
        return False


class QuorumBroker(RabbitmqBroker):
    """RabbitMQ with quorum queues, publisher confirms, and consumers that own their messages.

    While it cannot be reached, workers that called :meth:`poll` consume due rows instead.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._take_due: TakeDue | None = None
        self._consumes = self._publishes = True

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

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5_000) -> Consumer:
        if queue_name == POLLED_QUEUE:
            assert self._take_due is not None
            return PollingConsumer(self._take_due, lambda: self.is_away, timeout_s=timeout / 1_000)
        try:
            consumer: Consumer = super().consume(queue_name, prefetch, timeout)
        except Exception:
            self._note(consumes=False)
            raise
        # Publishing fails again at once if it still does.
        self._note(consumes=True, publishes=True)
        return consumer

    def enqueue(
        self, message: dramatiq.Message[Any], *, delay: int | None = None
    ) -> dramatiq.Message[Any]:
        try:
            sent: dramatiq.Message[Any] = super().enqueue(message, delay=delay)
        except Exception:
            self._note(publishes=False)
            raise
        self._note(publishes=True)
        return sent

    def _note(self, *, consumes: bool | None = None, publishes: bool | None = None) -> None:
        was_away = self.is_away
        self._consumes = self._consumes if consumes is None else consumes
        self._publishes = self._publishes if publishes is None else publishes
        if self.is_away != was_away:
            log.warning("broker_away" if self.is_away else "broker_back")

    @property
    def consumer_class(self) -> type[OwningConsumer]:
        return OwningConsumer

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


def setup(settings: Settings) -> dramatiq.Broker:
    """Create the broker of the settings and declare every queue. Opens no connection yet."""
    broker: dramatiq.Broker
    if settings.in_memory_broker:
        broker = StubBroker(middleware=middleware(), fail_fast_default=False)
    else:
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        parameters = pika.URLParameters(settings.amqp_url)
        parameters.heartbeat = HEARTBEAT_S
        # Dramatiq tries a publish this often, each time over a new connection that blocks too.
        parameters.blocked_connection_timeout = BLOCKED_TIMEOUT_S / MAX_ENQUEUE_ATTEMPTS
        parameters.socket_timeout = SOCKET_TIMEOUT_S
        parameters.stack_timeout = 2 * SOCKET_TIMEOUT_S
        broker = QuorumBroker(confirm_delivery=True, middleware=middleware())
        broker.parameters = parameters
    for message in messages.every():
        broker.declare_queue(messages.queue_name(message, prefix=settings.queue_prefix))
    return broker


class Publisher:
    """Sends nudges from a fixed pool of threads. Its caller neither waits nor fails.

    Dramatiq keeps a connection for each thread that ever published and never frees it, so
    short-lived threads must not publish themselves. A nudge that cannot be sent is logged and
    dropped: the row that it names is in Postgres, and recovery nudges it.
    """

    def __init__(self, broker: dramatiq.Broker, *, prefix: str) -> None:
        self.broker = broker
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(PUBLISHER_THREADS, thread_name_prefix="publish")

    def send(self, *nudges: messages.Nudge) -> Future[bool]:
        """Send nudges in order. The future holds whether all of them were confirmed."""
        return self._pool.submit(self._send_all, nudges)

    def close(self) -> None:
        """Send pending nudges, then stop."""
        self._pool.shutdown(wait=True)

    def _send_all(self, nudges: tuple[messages.Nudge, ...]) -> bool:
        for sent, nudge in enumerate(nudges):
            try:
                messages.send(nudge, broker=self.broker, prefix=self._prefix)
            except Exception as error:
                # The broker is unavailable: the rest would wait just as long and fail too.
                log.warning(
                    "nudge_not_sent",
                    actor=nudge.actor,
                    not_sent=len(nudges) - sent,
                    error=type(error).__name__,
                )
                return False
        return True
