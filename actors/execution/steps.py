"""Steps that one claim does one after the other: a metric and a trace of each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import SpanKind

from actors.execution.lease import Lease
from actors.messaging.messages import Nudge
from actors.observability import tracing
from db.queries.session_queries import StepRun


class Steps:
    """The steps of a session that were done under one claim."""

    def __init__(self, lease: Lease, session_id: uuid.UUID, *, traceparent: str | None) -> None:
        self.done: list[StepRun] = []
        self._lease = lease
        self._session_id = session_id
        self._traceparent = traceparent

    @contextmanager
    def step(self, name: str, of: type[Nudge], *, span_index: int | None = None) -> Iterator[None]:
        """Do a step in a block. Its trace has the name of the actor that does it in the pipeline.

        Raises
        ------
        ClaimLost, DeadlineExceeded
            If the work is no longer needed.
        """
        self._lease.check()
        span = tracing.started(
            of.actor,
            parent=self._traceparent,
            kind=SpanKind.INTERNAL,
            attributes={
                "session_id": self._session_id,
                "span_index": span_index,
                "attempt": self._lease.attempt,
            },
        )
        started_s = self._lease.held_s
        try:
            yield
        except BaseException:
            tracing.end(span, result="failed", failed="failed")
            raise
        self.done.append(StepRun(name, "done", self._lease.held_s - started_s, span_index))
        tracing.end(span, result="done")
