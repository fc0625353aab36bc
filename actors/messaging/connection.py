"""Threads that own a connection to RabbitMQ.

pika's connections are not thread-safe, and one that no thread serves sends no heartbeats. So each
belongs to one thread, which performs what others submit and otherwise serves the connection. A
process has two: one publishes, one consumes every queue, over a channel each. RabbitMQ stops
reading from a connection that publishes while it has raised an alarm; acks must still arrive then.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import pika
import pika.exceptions
import structlog
from pika.adapters.blocking_connection import BlockingChannel
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from actors.messaging.consumer import QueueConsumer
from actors.messaging.deadlines import ANSWER_S

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: What a connection raises that is lost, refused or not answered.
CONNECTION_ERRORS = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)
#: Seconds between two tries to reach the broker: the first pause, and the longest. Longer spares a
#: broker that starts; shorter notices sooner that it is back.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
#: A thread that nothing wakes checks its channels this often. RabbitMQ may close one that is idle.
#: Less than the deadline of an answer, which ends any longer wait.
TURN_S = 0.8 * ANSWER_S
#: A process that stops waits this long for its connections to close. A lookup of the broker's name
#: can take longer, and nothing is lost if it is abandoned.
CLOSE_S = 20.0


class Pauses:
    """Growing pauses between tries. They vary, so that many processes do not return at once."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S
        self._until = 0.0

    def begin(self) -> None:
        """Begin the next pause, twice as long as the one before."""
        self._until = time.monotonic() + self._next_s * random.uniform(0.75, 1.25)  # noqa: S311
        self._next_s = min(2 * self._next_s, LONGEST_PAUSE_S)

    def end(self) -> None:
        """End the pause; the next one is short again."""
        self._next_s, self._until = FIRST_PAUSE_S, 0.0

    def left_s(self) -> float:
        """Return the rest of the current pause."""
        return max(self._until - time.monotonic(), 0.0)


class Connected(Protocol):
    """A broker whose properties are the connection and a channel of the current thread.

    Both are opened when they are read first, and closed by ``del``.
    """

    connection: pika.BlockingConnection
    channel: BlockingChannel
    #: Queues to declare before they are used.
    queues_pending: set[str]

    def has_connection(self) -> bool:
        """Return whether the current thread has a connection."""
        ...

    def declare_queue(self, queue_name: str, *, ensure: bool = False) -> None:
        """Declare a queue, on the server too if ``ensure``."""
        ...

    def note(self, *, consumes: bool, error: str | None = None) -> None:
        """Note whether this process consumes its queues."""
        ...


class ConnectionThread:
    """Performs what others submit, in order, and serves the connection in between.

    ``broker`` is None if there is nothing to serve. The thread starts with the first submission.
    """

    def __init__(self, broker: Connected | None, *, name: str) -> None:
        self._broker = broker
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = False
        #: The connection of the thread, for others to wake it only.
        self._served: pika.BlockingConnection | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submit(self, do: Callable[..., T], *arguments: Any) -> Future[T]:
        """Perform a call in the thread; the future has its result. Cancelled once closed."""
        future: Future[T] = Future()
        with self._starting:
            if self._is_closing:
                future.cancel()
                return future
            self._tasks.append((future, partial(do, *arguments)))
            if self._thread.ident is None:
                self._thread.start()
        self._rouse()
        return future

    def close(self) -> None:
        """Perform what was submitted, close the connection and end."""
        with self._starting:
            self._is_closing = True
            started = self._thread.ident is not None
        if started and self._thread is not threading.current_thread():
            self._rouse()
            self._thread.join(CLOSE_S)

    def _rouse(self) -> None:
        self._wake.set()
        served = self._served
        if served is not None:
            # It may have been closed just now; the thread then waits for the event.
            with suppress(pika.exceptions.AMQPError):
                served.add_callback_threadsafe(_nothing)

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self._perform()
            if self._is_closing and not self._tasks:
                break
            try:
                self._attend()
            except CONNECTION_ERRORS as error:
                self._lost(error)
            except Exception as error:
                log.exception("connection_failed")
                self._lost(error)
        self._disconnect()

    def _perform(self) -> None:
        while self._tasks:
            future, do = self._tasks.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(do())
            except BaseException as error:
                future.set_exception(error)

    def _attend(self) -> None:
        """Serve the connection until there is a task; wait for one if there is no connection."""
        if self._broker is None or not self._broker.has_connection():
            self._served = None
            self._wake.wait(TURN_S)
        elif self._served is not self._broker.connection:
            # Others wake the new connection from now on; there may be a task from before.
            self._served = self._broker.connection
        else:
            self._served.process_data_events(TURN_S)

    def _lost(self, _error: Exception) -> None:
        self._disconnect()

    def _disconnect(self) -> None:
        self._served = None
        if self._broker is not None:
            with suppress(Exception):
                del self._broker.connection


def _nothing() -> None:
    """Do nothing: a callback ends the wait for events."""


class ConsumingThread(ConnectionThread):
    """Consumes queues over one connection, and again after it was lost."""

    _broker: Connected

    def __init__(self, broker: Connected) -> None:
        super().__init__(broker, name="consume")
        self._consumers: list[QueueConsumer] = []
        self._pauses = Pauses()
        #: The pauses of queues that cannot be consumed, although there is a connection.
        self._refused: dict[QueueConsumer, Pauses] = {}

    def consume(self, queue_name: str, *, prefetch: int, timeout_s: float) -> QueueConsumer:
        """Return a consumer, whose messages come as soon as the broker answers."""
        consumer = QueueConsumer(self, queue_name, prefetch=prefetch, timeout_s=timeout_s)
        self.submit(self._consumers.append, consumer)
        return consumer

    def leave(self, consumer: QueueConsumer) -> None:
        """Consume a queue no more. Its messages that were not acked return to it."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            self._refused.pop(consumer, None)
            with suppress(*CONNECTION_ERRORS):
                consumer.close_channel()

    def _attend(self) -> None:
        pause_s = self._pauses.left_s()
        if not self._consumers or pause_s:
            self._wake.wait(pause_s or TURN_S)
            return
        # Opens it, if there is none.
        self._served = self._broker.connection
        turn_s = TURN_S
        for consumer in self._consumers:
            if not consumer.is_open:
                turn_s = min(turn_s, self._subscribe(consumer))
        if not self._refused:
            self._broker.note(consumes=True)
            self._pauses.end()
        if not self._tasks:
            self._served.process_data_events(turn_s)

    def _subscribe(self, consumer: QueueConsumer) -> float:
        """Consume a queue; return for how long to wait before the next try if it is refused."""
        pauses = self._refused.get(consumer)
        if pauses is not None and pauses.left_s():
            return pauses.left_s()
        # It may have been removed since, or never was there.
        self._broker.queues_pending.add(consumer.queue_name)
        try:
            self._broker.declare_queue(consumer.queue_name, ensure=True)
            consumer.open(self._broker.connection.channel())
        except pika.exceptions.AMQPChannelError as error:
            # For example, it was declared with other arguments, or its nodes are down.
            del self._broker.channel
            pauses = self._refused.setdefault(consumer, Pauses())
            pauses.begin()
            self._broker.note(consumes=False, error=f"{consumer.queue_name}: {error!r}")
            return pauses.left_s()
        self._refused.pop(consumer, None)
        return TURN_S

    def _lost(self, error: Exception) -> None:
        self._disconnect()
        self._broker.note(consumes=False, error=type(error).__name__)
        self._pauses.begin()
