"""A connection to RabbitMQ whose every answer has a deadline.

pika waits for an answer until the connection is lost. A server that stands still keeps its
connections, so only missed heartbeats end that wait, after a minute or two.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pika
import pika.exceptions

#: How long the broker may take for an answer: a confirmation of a message, a count of a queue.
#: Shorter notices sooner that it stands still; longer tolerates a broker with a slow disk.
ANSWER_S = 5.0


class NoAnswer(pika.exceptions.AMQPConnectionError):  # type: ignore[misc]
    """RabbitMQ did not answer in time."""


class PromptConnection(pika.BlockingConnection):  # type: ignore[misc]
    """A connection that is lost if the broker takes longer than :data:`ANSWER_S` for an answer.

    Calls then raise :class:`NoAnswer`. A wait for messages (``process_data_events``) must end
    sooner by itself.
    """

    # Every call of pika that waits for the broker waits in this method. It has no public parameter
    # for a deadline: callbacks of `call_later` do not run during such a wait.
    def _flush_output(self, *waiters: Callable[[], bool]) -> None:
        deadline = self._impl._adapter_call_later(ANSWER_S, partial(self._give_up, waiters))
        try:
            super()._flush_output(*waiters)
        finally:
            self._impl._adapter_remove_timeout(deadline)

    def _give_up(self, waiters: tuple[Callable[[], bool], ...]) -> None:
        # The answer may have come while other threads kept this one from running.
        if not any(is_ready() for is_ready in waiters):
            self._impl._terminate_stream(NoAnswer(f"no answer within {ANSWER_S:g} s"))
