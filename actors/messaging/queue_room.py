"""How many messages a queue gets: as many as its consumers can take soon, however long the backlog.

A message only says that there is one more row to look at. Thousands of them in a queue find no more
work than hundreds, and each that finds none costs a query. The rows beyond are nudged by recovery,
which fills the queue again every few seconds (``CLAMOR_RECOVERY_S``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import dramatiq
from dramatiq.brokers.stub import StubBroker

from actors.messaging.rabbitmq import QuorumBroker

#: Messages that may wait for each consumer of a queue. A consumer must not run out of them before
#: recovery has filled the queue again: this suffices for steps of 15 ms and longer. More lets more
#: of them wait for rows that are done already.
MESSAGES_A_CONSUMER = 200
#: A publisher counts the messages again once it has sent this many, and after this many seconds.
#: More and longer saves counting; other publishers, which count too, fill the queue meanwhile.
UNCOUNTED, FRESH_S = 20, 1.0


@dataclass(frozen=True, kw_only=True)
class Level:
    """How full a queue is."""

    #: Messages that wait for a consumer.
    waiting: int
    #: The most that may wait.
    most: int

    @property
    def free(self) -> int:
        """How many more may wait."""
        return max(self.most - self.waiting, 0)


@dataclass
class _Counted:
    at: float
    is_full: bool
    #: How many may be sent before the next count.
    left: int


class QueueRoom:
    """Decides whether a queue gets one more message. Used by one thread, that of the connection."""

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker = broker
        self._counted: dict[str, _Counted] = {}

    def level(self, queue_name: str) -> Level:
        """Count the messages of a queue.

        Raises
        ------
        dramatiq.errors.ConnectionClosed
            If the broker does not answer.
        """
        waiting, consumers = self._count(queue_name)
        # One, if there is none at the moment: the first worker that starts finds messages.
        return Level(waiting=waiting, most=MESSAGES_A_CONSUMER * max(consumers, 1))

    def take(self, queue_name: str) -> bool:
        """Return whether there is room for one more message; if so, it counts from now on.

        Raises
        ------
        dramatiq.errors.ConnectionClosed
            If the broker does not answer.
        """
        now, counted = time.monotonic(), self._counted.get(queue_name)
        is_used_up = counted is not None and not counted.is_full and not counted.left
        if counted is None or is_used_up or now - counted.at >= FRESH_S:
            free = self.level(queue_name).free
            counted = _Counted(at=now, is_full=not free, left=min(free, UNCOUNTED))
            self._counted[queue_name] = counted
        if counted.is_full:
            return False
        counted.left -= 1
        return True

    def _count(self, queue_name: str) -> tuple[int, int]:
        if isinstance(self._broker, QuorumBroker):
            return self._broker.count(queue_name)
        assert isinstance(self._broker, StubBroker)
        # Its workers are threads that are not tied to a queue.
        return self._broker.queues[queue_name].qsize(), 1
