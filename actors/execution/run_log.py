"""Every run of an actor leaves one line in the log: what ran, on what, for how long, to what end.

``result`` is one of:

=============  ====================================================================================
done           the work is done and written down
sent_back      what an earlier step had made is missing, and the session went back to that step
nothing_to_do  the row was done, held by somebody else, or not due
retried        it failed, and is tried again later
failed         it failed for good
given_up       it failed, or fell silent, too often; nobody will try it again
superseded     somebody else has the row by now; what was done is thrown away
cancelled      the session was cancelled in between; what was done is thrown away
stuck          it does not end, and its process is left: see :mod:`actors.execution.watchdog`
unreachable    Postgres did not take what was to be written: the lease ends by itself, and the
               recovery nudges again
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
from actors.observability import tracing

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


class Run:
    """One run of an actor. The first end that it comes to is the one that is logged."""

    def __init__(self, actor: str, ids: dict[str, object]) -> None:
        self.actor = actor
        self.ids = ids
        self.attempt: int | None = None
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._ended = False
        self._span: Span | None = None

    def holds(
        self, attempt: int, ids: dict[str, object], *, traceparent: str | None = None
    ) -> None:
        """Note what was claimed, which may be another row than the one that the message named, and
        go on with its trace.
        """
        self.attempt = attempt
        self.ids = ids
        if tracing.is_on():
            self._span = tracing.started(
                self.actor, parent=traceparent, kind=SpanKind.CONSUMER,
                attributes=ids | {"attempt": attempt},
            )  # fmt: skip

    @property
    def duration_s(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self._started

    def end(
        self,
        result: str,
        *,
        error: str | None = None,
        raised: BaseException | None = None,
        **more: object,
    ) -> None:
        """Log the run, unless that was done already."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if self._span is not None:
            told = (error or result) if LEVELS[result] > INFO else None
            tracing.end(self._span, result=result, failed=told)
        ids = {name: _loggable(value) for name, value in self.ids.items()}
        log.log(
            LEVELS[result], "actor_run", actor=self.actor, **ids, attempt=self.attempt,
            result=result, duration_s=round(self.duration_s, 3), error=error, **more,
            **({} if raised is None else {"exc_info": raised}),
        )  # fmt: skip


@contextmanager
def recorded(actor: str, **ids: object) -> Iterator[Run]:
    """A run that is logged however it ends.

    What the block raises ends here. There is nobody above who could do more about it: the message
    is acked, and the row that it named is found by recovery.
    """
    run = Run(actor, ids)
    try:
        yield run
    except failures.RAISED as error:
        run.end("unreachable", error=failures.judge(error).logged, raised=error)


def _loggable(value: object) -> object:
    return str(value) if isinstance(value, uuid.UUID) else value
