"""``split_recording``: decode once, measure levels, store 16 kHz mono audio, plan the spans."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from actors import steps
from actors.messages import DetectSpan, Nudge, SplitRecording
from actors.runtime import Runtime
from actors.science import chunks, decode
from actors.science.prepare import Prepared, prepare
from db import queries
from db.blobs import product_key, recording_key
from db.queries import Work


def split_recording(runtime: Runtime, nudge: SplitRecording) -> None:
    """Turn a recording into spans that many workers can work on at once."""
    session_id = nudge.session_id
    work = Work(session_id=session_id, state="splitting")

    def perform(attempt: int) -> steps.Outcome:
        pcm_key = product_key(session_id, "pcm", attempt=attempt)
        levels_key = product_key(session_id, "levels", attempt=attempt)
        prepared = _decode(runtime, session_id, pcm_key)
        runtime.blobs.put(levels_key, prepared.levels.to_bytes())
        chunk = chunks.chunk_samples(prepared.n_samples)
        spans = chunks.plan_spans(prepared.n_samples, chunk=chunk)
        move_on = steps.move_on(
            work,
            to="detecting",
            values={
                "duration_s": prepared.duration_s,
                "missing_s": prepared.missing_s,
                "n_samples": prepared.n_samples,
                "chunk_samples": chunk,
                "pcm_key": pcm_key,
                "levels_key": levels_key,
                "spans_total": len(spans),
            },
            then=[DetectSpan(session_id=session_id, span_index=span.index) for span in spans],
        )

        def write(db: Session, attempt: int) -> Sequence[Nudge] | None:
            nudges = move_on(db, attempt)
            if nudges is not None:
                queries.add_spans(
                    db, session_id, [(span.index, span.start, span.stop) for span in spans]
                )
            return nudges

        return steps.Outcome(write, unused_keys=(pcm_key, levels_key))

    steps.run(
        runtime,
        steps.Step(name="split", work=work, perform=perform, give_up=steps.fail_session(work)),
    )


def _decode(runtime: Runtime, session_id: uuid.UUID, pcm_key: str) -> Prepared:
    longest_s = runtime.settings.max_duration_s

    def check_duration(decoded_s: float) -> None:
        if decoded_s > longest_s:
            raise steps.Permanent(
                "too-long", f"the recording lasts longer than {longest_s:.0f} seconds"
            )

    try:
        with (
            runtime.blobs.open(recording_key(session_id)) as file,
            decode.open_recording(file) as decoder,
            runtime.blobs.writer(pcm_key) as pcm,
        ):
            return prepare(decoder, write=pcm.write, on_progress=check_duration)
    except Exception:
        runtime.blobs.delete(pcm_key)
        raise
