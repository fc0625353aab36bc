"""``detect_span``: classify the chunks of one span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from actors import steps
from actors.messages import AggregateSession, DetectSpan, Nudge
from actors.runtime import Runtime
from actors.science import chunks, features
from actors.science.prepare import PCM_BYTES, pcm_to_float
from db import queries
from db.models import AudioSession, SessionSpan
from db.queries import Work


def detect_span(runtime: Runtime, nudge: DetectSpan) -> None:
    """Give every chunk of a span its class probabilities; the last span starts ``aggregate``."""
    work = Work(session_id=nudge.session_id, span_index=nudge.span_index, state="pending")
    aggregate = AggregateSession(session_id=nudge.session_id)

    def finish(db: Session, attempt: int, **values: object) -> Sequence[Nudge] | None:
        was_last = queries.finish_span(db, work, attempt=attempt, values=values)
        if was_last is None:
            return None
        return [aggregate] if was_last else []

    def perform(_attempt: int) -> steps.Outcome:
        with runtime.store.transaction() as db:
            session = queries.get_session(db, nudge.session_id)
            span = queries.get_span(db, nudge.session_id, nudge.span_index)
        if session is None or span is None:
            raise steps.Permanent("session-removed", "the session was removed while it ran")
        scores = _classify(runtime, session, span).astype("<f4").tobytes()
        return steps.Outcome(lambda db, attempt: finish(db, attempt, state="done", scores=scores))

    steps.run(
        runtime,
        steps.Step(
            name="detect",
            work=work,
            perform=perform,
            # A span that is lost is counted as finished: what the others hear is kept.
            give_up=lambda db, attempt, problem: finish(
                db, attempt, state="failed", last_error=problem.detail
            ),
        ),
    )


def _classify(runtime: Runtime, session: AudioSession, span: SessionSpan) -> NDArray[np.float32]:
    """Class probabilities [shape=(n_chunks, n_classes)] of a span's chunks."""
    assert session.chunk_samples
    assert session.model_id
    planned = chunks.plan_chunks(span.start_sample, span.stop_sample, chunk=session.chunk_samples)
    ranges = [
        (chunk.start - span.start_sample, chunk.stop - span.start_sample) for chunk in planned
    ]
    if ranges[-1][1] < chunks.MIN_CHUNK:
        # A recording that is shorter than the shortest chunk is heard with silence behind it.
        ranges = [(0, chunks.MIN_CHUNK)]
    samples = _read(runtime, session, start=span.start_sample, n_samples=ranges[-1][1])
    return runtime.model(session.model_id).scores(features.extract(samples, ranges))


def _read(
    runtime: Runtime, session: AudioSession, *, start: int, n_samples: int
) -> NDArray[np.float32]:
    """Samples ``[start - MARGIN, start + n_samples + MARGIN)``, silent outside the recording."""
    assert session.pcm_key
    assert session.n_samples
    first = start - features.MARGIN
    samples = np.zeros(n_samples + 2 * features.MARGIN, dtype=np.float32)
    from_sample = max(first, 0)
    to_sample = min(first + samples.size, session.n_samples)
    data = runtime.blobs.get_range(
        session.pcm_key,
        start=from_sample * PCM_BYTES,
        length=(to_sample - from_sample) * PCM_BYTES,
    )
    samples[from_sample - first : to_sample - first] = pcm_to_float(data)
    return samples
