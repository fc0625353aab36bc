"""Messages from the rows in Postgres, while RabbitMQ cannot be reached.

The work is in the rows, so workers do not need the broker to find it. They poll, and begin a step
about a second later than a message would have come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import dramatiq
import structlog
from dramatiq.broker import Consumer

from actors.messaging.messages import Nudge

log = structlog.get_logger(__name__)

#: The name that the messages have for their queue. The broker has no such queue.
POLLED_QUEUE = "polled"

#: Returns nudges for rows that are due.
TakeDue = Callable[[], Sequence[Nudge]]


class PollingConsumer(Consumer):
    """Consumes due rows while ``is_away`` returns True, and nothing otherwise.

    It polls again when the messages before have been handled, or after the timeout.
    """

    def __init__(self, take: TakeDue, is_away: Callable[[], bool], *, timeout_s: float) -> None:
        self._take = take
        self._is_away = is_away
        self._timeout_s = timeout_s
        self._waiting: deque[Nudge] = deque()
        #: Counted by the thread that consumes, and by the one that works.
        self._n_taken = self._n_handled = 0
        self._handled = threading.Event()

    def __next__(self) -> dramatiq.MessageProxy | None:
        if not self._waiting and self._n_taken == self._n_handled and self._is_away():
            self._poll()
        if self._waiting:
            self._n_taken += 1
            return dramatiq.MessageProxy(_message(self._waiting.popleft()))
        self._handled.wait(self._timeout_s)
        self._handled.clear()
        return None

    def ack(self, _message: dramatiq.MessageProxy) -> None:
        """Note that a message was handled."""
        self._n_handled += 1
        self._handled.set()

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Do the same for a message that was rejected."""
        self.ack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Drop messages when the worker stops: their rows are still due."""

    def close(self) -> None:
        """Do nothing: a poll keeps no connection open."""

    def _poll(self) -> None:
        try:
            self._waiting.extend(self._take())
        except Exception as error:
            # Postgres is unavailable, too.
            log.warning("poll_failed", error=type(error).__name__)


def _message(nudge: Nudge) -> dramatiq.Message[None]:
    return dramatiq.Message(
        queue_name=POLLED_QUEUE,
        actor_name=nudge.actor,
        args=(),
        kwargs=nudge.payload(),
        options={},
    )
