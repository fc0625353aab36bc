"""The broker, its middleware in order, and the publisher.

Importing this module connects to nothing. The HTTP process uses it too, so it stays light.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import dramatiq
import msgspec
import pika
import structlog
from dramatiq.brokers.rabbitmq import MAX_ENQUEUE_ATTEMPTS, RabbitmqBroker
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer as RabbitmqConsumer
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import xq_name
from dramatiq.middleware import Middleware, ShutdownNotifications, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.messaging import messages
from db.settings import Settings, SettingsError

log = structlog.get_logger(__name__)

#: A worker whose native code holds the GIL sends no heartbeat for a while; RabbitMQ drops a
#: connection after two that are missed. Shorter notices a dead peer sooner.
HEARTBEAT_S = 60
#: While RabbitMQ raises an alarm a confirmed publish hangs; after about this time it is given up,
#: and recovery sends the message again. A process that stops waits for it.
BLOCKED_TIMEOUT_S = 10
SOCKET_TIMEOUT_S = 5
#: RabbitMQ gives a message that was delivered this often without an answer to the dead letters.
#: The row it names is not lost: claims are counted in Postgres, and recovery nudges.
DELIVERY_LIMIT = 5
#: A dead letter is kept for a week, so that somebody sees it after a holiday, and at most so many
#: a queue, the oldest going first: a release that cannot read its messages makes one each time
#: recovery nudges. No row is lost with it; what is lost is the chance to look at it.
DEAD_LETTER_TTL_MS = 7 * 24 * 3_600 * 1_000
DEAD_LETTERS_KEPT = 10_000
#: Threads that publish. Each keeps a connection of its own for good.
PUBLISHER_THREADS = 2


def middleware() -> list[Middleware]:
    """What surrounds every message, in order.

    Dramatiq's own Retries, Pipelines, GroupCallbacks and AgeLimit are left out on purpose:
    retries live in Postgres, and a publish that fails inside them is swallowed.
    """
    return [
        # Interrupts an actor that runs beyond its limit, as far as Python code can be.
        TimeLimit(),
        # Lets an actor know that the worker is being stopped.
        ShutdownNotifications(),
        # Keeps a message that no release can read among the dead letters, to be looked at.
        RejectUnreadable(),
        # Gives periodic actors their schedule; a tick later than this is dropped, and is made
        # good by recovery or by the next one.
        PeriodiqMiddleware(skip_delay=30),
    ]


class RejectUnreadable(Middleware):
    """Rejects a message that is not of its actor's contract.

    Every other failure is acked: what was to be done stands in Postgres, and recovery nudges.
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
    """A consumer that answers only for messages which it delivered itself.

    RabbitMQ counts delivery tags from 1 on every channel. After a reconnect dramatiq still holds
    messages of the old channel, and their acks would hit whichever new messages bear the same
    tags: those would be lost. A message of an older consumer is not acked at all; RabbitMQ
    delivers it again, and the second handling finds the work claimed or done.
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
    """RabbitMQ with quorum queues, confirms, and consumers that own their messages."""

    @property
    def consumer_class(self) -> type[OwningConsumer]:
        return OwningConsumer

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        arguments = super()._build_queue_arguments(queue_name)  # type: ignore[no-untyped-call]
        return dict(arguments) | {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}

    def _declare_xq_queue(self, queue_name: str) -> Any:
        """Declare the queue of dead letters.

        A classic queue on purpose: a quorum queue counts every look at a message (get, and put
        back) as a delivery, and at its limit drops the message for having been looked at.
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
            # An earlier release declared it with other bounds, which cannot be changed, or the
            # one node that has it is down. Work does not wait for a place to put dead letters.
            log.warning("dead_letter_queue_not_declared", queue=queue_name, code=error.reply_code)
            del self.channel
            return None


def setup(settings: Settings) -> dramatiq.Broker:
    """The broker that the settings name, with every queue declared; connects to nothing yet."""
    broker: dramatiq.Broker
    if settings.in_memory_broker:
        broker = StubBroker(middleware=middleware(), fail_fast_default=False)
    else:
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        try:
            parameters = pika.URLParameters(settings.amqp_url)
        except (ValueError, LookupError):
            # The reason would repeat a part of the URL, and that may be of its password.
            raise SettingsError("AMQP_URL cannot be read as a URL of RabbitMQ") from None
        parameters.heartbeat = HEARTBEAT_S
        # Dramatiq tries a publish so often, each time over a new connection, which is blocked too.
        parameters.blocked_connection_timeout = BLOCKED_TIMEOUT_S / MAX_ENQUEUE_ATTEMPTS
        parameters.socket_timeout = SOCKET_TIMEOUT_S
        parameters.stack_timeout = 2 * SOCKET_TIMEOUT_S
        broker = QuorumBroker(confirm_delivery=True, middleware=middleware())
        broker.parameters = parameters
    for nudge in messages.ALL:
        broker.declare_queue(messages.queue_name(nudge, prefix=settings.queue_prefix))
    return broker


class Publisher:
    """Sends nudges from a fixed pool of threads; never makes its caller wait or fail.

    Dramatiq keeps a connection for each thread that ever published and does not free it, so
    threads that come and go must not publish themselves. A nudge that cannot be sent is logged
    and forgotten: the row that it names is in Postgres, and recovery will find it quiet.
    """

    def __init__(self, broker: dramatiq.Broker, *, prefix: str) -> None:
        self.broker = broker
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(PUBLISHER_THREADS, thread_name_prefix="publish")

    def send(self, *nudges: messages.Nudge) -> Future[bool]:
        """Send nudges in order; the future tells whether all were confirmed, or some given up."""
        return self._pool.submit(self._send_all, nudges)

    def close(self) -> None:
        """Send what is still waiting, then stop."""
        self._pool.shutdown(wait=True)

    def _send_all(self, nudges: tuple[messages.Nudge, ...]) -> bool:
        for sent, nudge in enumerate(nudges):
            try:
                messages.send(nudge, broker=self.broker, prefix=self._prefix)
            except Exception as error:
                # The broker is away: the rest would wait just as long for the same answer.
                log.warning(
                    "nudge_not_sent",
                    actor=nudge.actor,
                    not_sent=len(nudges) - sent,
                    error=type(error).__name__,
                )
                return False
        return True
