"""``detect_span``: framewise scoring of one span."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

from sqlalchemy.orm import Session

from actors.audio import pcm, resplit
from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from actors.messaging.messages import AggregateSession, DetectSpan, Nudge
from actors.science.detection import inference
from db.blobs.errors import BlobMissing
from db.queries import session_queries, span_queries
from db.queries.stage_results import DetectDone
from db.queue import fair_order
from db.queue.claims import SessionWork
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan

#: The type of probabilities in a span's row: half precision is finer than their accuracy.
SCORES = "<f2"


def detect_span(runtime: Runtime, nudge: DetectSpan) -> None:
    """Compute the class probabilities of a span's frames; the last span starts ``aggregate``."""
    runner.run(
        runtime, nudge, fair_order.next_span, partial(_detect, runtime), in_one_statement=True
    )


def _detect(runtime: Runtime, work: SessionWork) -> runner.Task:
    assert work.span_index is not None
    session_id, span_index = work.session_id, work.span_index
    aggregate = AggregateSession(session_id=session_id)

    def finish(tx: Session, attempt: int, **values: Unpack[DetectDone]) -> Sequence[Nudge] | None:
        was_last = span_queries.finish_span(tx, work, attempt=attempt, values=values)
        if was_last is None:
            return None
        return [aggregate] if was_last else []

    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            session = session_queries.get_session(tx, session_id)
            span = span_queries.get_span(tx, session_id, span_index)
        if session is None or span is None:
            raise Permanent("session-removed", "the session was removed while it ran")
        try:
            scores = score(runtime, session, span, lease)
        except BlobMissing as missing:
            return resplit.instead(runtime, session, work, missing)
        return runner.Result(lambda tx, attempt: finish(tx, attempt, state="done", scores=scores))

    return runner.Task(
        name="detect",
        work=work,
        perform=perform,
        # A lost span counts as finished, so that the detections of the others are kept.
        give_up=lambda tx, attempt, problem: finish(
            tx, attempt, state="failed", last_error=problem["detail"]
        ),
    )


def score(runtime: Runtime, session: AudioSession, span: SessionSpan, lease: Lease) -> bytes:
    """Return the class probabilities [shape=(n_steps, n_classes)] of a span's frames, as stored."""
    assert session.model_id
    scores = inference.score_span(
        runtime.model(session.model_id),
        pcm.reader(runtime.blobs, session, lease),
        span.start_sample,
        span.stop_sample,
        grid=pcm.grid_of(session),
    )
    return scores.astype(SCORES).tobytes()
