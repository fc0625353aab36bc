"""Queries for the spans of sessions, and for their scores."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.orm import Session

from db.queries.stage_results import DetectDone
from db.queue import claims
from db.queue.claims import SessionWork
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan


def new_spans(session_id: uuid.UUID, spans: Iterable[tuple[int, int, int]]) -> list[SessionSpan]:
    """Return the rows of a session's spans, given as ``(index, start_sample, stop_sample)``."""
    return [
        SessionSpan(
            session_id=session_id,
            span_index=index,
            start_sample=start,
            stop_sample=stop,
            state="pending",
        )
        for index, start, stop in spans
    ]


def get_span(tx: Session, session_id: uuid.UUID, span_index: int) -> SessionSpan | None:
    """Return a span, or None."""
    return tx.get(SessionSpan, (session_id, span_index))


def finish_span(tx: Session, work: SessionWork, *, attempt: int, values: DetectDone) -> bool | None:
    """Finish a span and count it; True if it was the session's last, None if the claim was lost.

    The barrier: the count is in the session's row and is raised under its lock, in the transaction
    that finishes the span, behind the span's fence. Exactly one caller can see it reach the total,
    and that one moves the session to its next state.
    """
    if not claims.update_held(tx, work, attempt, values):
        return None
    n_finished = AudioSession.spans_finished + 1
    is_last = n_finished >= AudioSession.spans_total
    now = func.now()
    begun = select(SessionSpan.started_at).where(
        SessionSpan.session_id == work.session_id, SessionSpan.span_index == work.span_index
    )
    state_after = tx.execute(
        update(AudioSession)
        .where(
            AudioSession.id == work.session_id,
            AudioSession.state == "detecting",
            AudioSession.resplits == work.resplits,
        )
        .values(
            spans_finished=n_finished,
            stage_since=case(
                (is_last, None),
                else_=func.coalesce(AudioSession.stage_since, begun.scalar_subquery()),
            ),
            stage_told_at=case((is_last, None), else_=func.clock_timestamp()),
            state=case((is_last, "aggregating"), else_=AudioSession.state),
            attempt=case((is_last, AudioSession.first_claim), else_=AudioSession.attempt),
            waits_for_storage=False,
            uncounted=case((is_last, AudioSession.first_claim), else_=AudioSession.uncounted),
            due_at=case((is_last, now), else_=AudioSession.due_at),
            nudged_at=case((is_last, now), else_=AudioSession.nudged_at),
        )
        .returning(AudioSession.state),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()
    # The session may have been cancelled meanwhile: then it is not moved.
    return state_after == "aggregating"


def split_again(tx: Session, work: SessionWork, *, attempt: int) -> bool:
    """Send a detecting or aggregating session back to be split; False if the claim was lost.

    Its spans and their count are removed: the next split plans them again.
    """
    # As in finish_span, spans are locked before their session, and here in a fixed order, so that
    # transactions cannot deadlock.
    tx.execute(
        select(SessionSpan.span_index)
        .where(SessionSpan.session_id == work.session_id)
        .order_by(SessionSpan.span_index)
        .with_for_update()
    )
    if not claims.is_held(tx, work, attempt=attempt):
        return False
    state = AudioSession.state == (work.state if work.span_index is None else "detecting")
    moved = tx.execute(
        update(AudioSession)
        .where(AudioSession.id == work.session_id, state, AudioSession.resplits == work.resplits)
        .values(
            state="splitting",
            resplits=AudioSession.resplits + 1,
            spans_total=0,
            spans_finished=0,
            pcm_key=None,
            wide_pcm_key=None,
            levels_key=None,
            bands_key=None,
            spectrogram_key=None,
            **claims.at_move(AudioSession),
        ),
        execution_options={"synchronize_session": False},
    )
    if not claims.changed(moved):
        return False
    tx.execute(
        delete(SessionSpan).where(SessionSpan.session_id == work.session_id),
        execution_options={"synchronize_session": False},
    )
    return True


def spans_of(tx: Session, session_id: uuid.UUID) -> Sequence[SessionSpan]:
    """Return the spans of a session, in chronological order."""
    return tx.scalars(
        select(SessionSpan)
        .where(SessionSpan.session_id == session_id)
        .order_by(SessionSpan.span_index)
    ).all()
