"""The broker, its middleware in order, and the publisher.

Importing this module opens no connection. The HTTP process uses it too, so it stays light.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Iterable
from concurrent.futures import Future

import dramatiq
import msgspec
import pika
import structlog
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError
from dramatiq.middleware import Middleware, ShutdownNotifications, TimeLimit
from periodiq import PeriodiqMiddleware

from actors.messaging import messages
from actors.messaging.connection import ConnectionThread, Pauses
from actors.messaging.deadlines import ANSWER_S
from actors.messaging.messages import Nudge
from actors.messaging.queue_room import Level, QueueRoom
from actors.messaging.rabbitmq import QuorumBroker
from db.settings import Settings

log = structlog.get_logger(__name__)

#: A worker whose native code holds the GIL sends no heartbeat for a while; RabbitMQ drops a
#: connection after two missed ones. Shorter notices a dead peer sooner.
HEARTBEAT_S = 60
#: While RabbitMQ raises an alarm, a confirmed publish hangs. It is given up after this time, and
#: recovery sends the message again. A stopping process waits for it. Less than the deadline of an
#: answer, so that the error shows the reason.
BLOCKED_TIMEOUT_S = 0.8 * ANSWER_S
SOCKET_TIMEOUT_S = 5


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


def time_limit(broker: dramatiq.Broker) -> TimeLimit | None:
    """Return the middleware of a broker that interrupts actors."""
    return next((each for each in broker.middleware if isinstance(each, TimeLimit)), None)


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


def setup(settings: Settings) -> dramatiq.Broker:
    """Create the broker of the settings and declare every queue. Opens no connection yet."""
    broker: dramatiq.Broker
    if settings.in_memory_broker:
        broker = StubBroker(middleware=middleware(), fail_fast_default=False)
    else:
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        parameters = pika.URLParameters(settings.amqp_url)
        parameters.heartbeat = HEARTBEAT_S
        parameters.blocked_connection_timeout = BLOCKED_TIMEOUT_S
        parameters.socket_timeout = SOCKET_TIMEOUT_S
        parameters.stack_timeout = 2 * SOCKET_TIMEOUT_S
        broker = QuorumBroker(confirm_delivery=True, middleware=middleware())
        broker.parameters = parameters
    for message in messages.every():
        broker.declare_queue(messages.queue_name(message, prefix=settings.queue_prefix))
    return broker


class Publisher:
    """Sends nudges from one thread, over one connection. Its caller neither waits nor fails.

    A nudge is dropped if its queue has as many messages as its consumers can take
    (`actors.messaging.queue_room`), or if the broker does not accept it: the row that it names is
    in Postgres, and recovery nudges it.
    """

    def __init__(self, broker: dramatiq.Broker, *, prefix: str) -> None:
        self.broker = broker
        self._prefix = prefix
        self._rabbitmq = broker if isinstance(broker, QuorumBroker) else None
        self._room = QueueRoom(broker)
        self._pauses = Pauses()
        self._thread = ConnectionThread(self._rabbitmq, name="publish")
        # A process that ends without closing still sends what waits.
        atexit.register(self.close)

    def send(self, *nudges: Nudge) -> Future[bool]:
        """Send nudges in order. The future holds whether all of them were confirmed.

        One for which its queue has no room counts as confirmed.
        """
        return self._thread.submit(self._send_all, nudges)

    def levels(self, nudges: Iterable[type[Nudge]]) -> Future[dict[type[Nudge], Level] | None]:
        """Count the messages that wait for each kind of work; None if the broker is away.

        Who has nothing to send notices by it that the broker went, and that it is back.
        """
        return self._thread.submit(self._levels, tuple(nudges))

    def close(self) -> None:
        """Send pending nudges, then stop."""
        atexit.unregister(self.close)
        self._thread.close()

    # --- in the thread -------------------------------------------------------------------------

    def _send_all(self, nudges: tuple[Nudge, ...]) -> bool:
        if self._is_pausing():
            return False
        for sent, nudge in enumerate(nudges):
            try:
                if self._room.take(self._queue(type(nudge))):
                    messages.send(nudge, broker=self.broker, prefix=self._prefix)
            except Exception as error:
                # The broker is unavailable: the rest would wait just as long and fail too.
                log.warning(
                    "nudge_not_sent",
                    actor=nudge.actor,
                    not_sent=len(nudges) - sent,
                    error=type(error).__name__,
                )
                self._pauses.begin()
                return False
        self._pauses.end()
        return True

    def _levels(self, nudges: tuple[type[Nudge], ...]) -> dict[type[Nudge], Level] | None:
        if self._is_pausing():
            return None
        try:
            found = {nudge: self._room.level(self._queue(nudge)) for nudge in nudges}
        except BrokerConnectionError:
            self._pauses.begin()
            return None
        self._pauses.end()
        return found

    def _queue(self, nudge: type[Nudge]) -> str:
        return messages.queue_name(nudge, prefix=self._prefix)

    def _is_pausing(self) -> bool:
        """Return whether the broker is away and was tried a moment ago."""
        return (
            self._rabbitmq is not None
            and not self._rabbitmq.can_publish
            and self._pauses.left_s() > 0
        )
