"""Log one line per run of an actor, with actor, row, duration and result, and count it.

``result`` is one of:

=============  ====================================================================================
done           the work is done and its result stored
sent_back      a product of an earlier step is missing; the session went back to that step
nothing_to_do  the row was done, claimed by another worker, or not due
retried        it failed and is retried later
failed         it failed permanently
given_up       it failed or timed out too often and is not retried
superseded     another worker has claimed the row; the result is discarded
cancelled      the session was cancelled meanwhile; the result is discarded
stuck          it did not end, and its process exits: see :mod:`actors.execution.watchdog`
unreachable    Postgres did not accept the result: the lease expires and recovery nudges again
=============  ====================================================================================
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from logging import CRITICAL, INFO, WARNING

import structlog
from opentelemetry.trace import Span, SpanKind

from actors.execution import failures
from actors.observability import metrics, tracing

log = structlog.get_logger(__name__)

LEVELS = {
    "done": INFO,
    "nothing_to_do": INFO,
    "superseded": INFO,
    "cancelled": INFO,
    "sent_back": WARNING,
    "retried": WARNING,
    "failed": WARNING,
    "unreachable": WARNING,
    "given_up": CRITICAL,
    "stuck": CRITICAL,
}


class ActorRun:
    """One run of an actor. Only its first end is logged."""

    def __init__(self, actor: str, ids: dict[str, object]) -> None:
        self.actor = actor
        self.ids = ids
        self.attempt: int | None = None
        #: How long the run has given its turn to others.
        self.suspended_s = 0.0
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._ended = False
        self._span: Span | None = None

    def holds(
        self, attempt: int, ids: dict[str, object], *, traceparent: str | None = None
    ) -> None:
        """Record the claimed row, which may differ from the one in the message, and continue its
        trace.
        """
        self.attempt = attempt
        self.ids = ids
        if tracing.is_on():
            self._span = tracing.started(
                self.actor,
                parent=traceparent,
                kind=SpanKind.CONSUMER,
                attributes=ids | {"attempt": attempt},
            )

    @property
    def duration_s(self) -> float:
        """The time since the start of the run, without the turns of other work."""
        return time.monotonic() - self._started - self.suspended_s

    def end(
        self,
        result: str,
        *,
        error: str | None = None,
        raised: BaseException | None = None,
        **more: object,
    ) -> None:
        """Log the run, unless it is already logged."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if self._span is not None:
            told = (error or result) if LEVELS[result] > INFO else None
            tracing.end(self._span, result=result, failed=told)
        metrics.run_ended(
            self.actor, result, duration_s=self.duration_s, had_work=self.attempt is not None
        )
        ids = {name: _loggable(value) for name, value in self.ids.items()}
        log.log(
            LEVELS[result],
            "actor_run",
            actor=self.actor,
            **ids,
            attempt=self.attempt,
            result=result,
            duration_s=round(self.duration_s, 3),
            error=error,
            **more,
            **({} if raised is None else {"exc_info": raised}),
        )


@contextmanager
def recorded(actor: str, **ids: object) -> Iterator[ActorRun]:
    """Log a run however it ends.

    Exceptions of the block are caught here, as no caller could do more about them: the message is
    acked, and recovery finds the row that it named.
    """
    run = ActorRun(actor, ids)
    try:
        yield run
    except failures.RAISED as error:
        run.end("unreachable", error=failures.judge(error).logged, raised=error)


def _loggable(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value
