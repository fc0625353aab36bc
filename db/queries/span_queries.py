"""Queries for the spans of sessions, and for their scores."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries.stage_results import DetectDone
from db.queue import claims, session_moves
from db.queue.claims import SessionWork
from db.statements import CompiledStatement
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import UnfinishedSession


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


def add_spans(tx: Session, spans: Iterable[SessionSpan]) -> None:
    """Add the spans of a session, without scores: only steps that are still to come need them."""
    _ADD.run_for_each(tx, [{name: getattr(span, name) for name in _ADDED} for span in spans])


_ADDED = ("session_id", "span_index", "start_sample", "stop_sample", "state")
_ADD = CompiledStatement(insert(SessionSpan), columns=_ADDED)


def get_span(tx: Session, session_id: uuid.UUID, span_index: int) -> SessionSpan | None:
    """Return a span, or None."""
    return tx.get(SessionSpan, (session_id, span_index))


def finish_span(tx: Session, work: SessionWork, *, attempt: int, values: DetectDone) -> bool | None:
    """Finish a span and count it; True if it was the session's last, None if the claim was lost.

    The barrier: the count is in the row of the session's work and is raised under its lock, in the
    transaction that finishes the span, behind the span's fence. Exactly one caller can see it reach
    the total, and that one moves the session to its next state.
    """
    if not claims.update_held(tx, work, attempt, values):
        return None
    total = select(AudioSession.spans_total).where(AudioSession.id == work.session_id)
    begun = select(SessionSpan.started_at).where(
        SessionSpan.session_id == work.session_id, SessionSpan.span_index == work.span_index
    )
    is_last = tx.execute(
        update(UnfinishedSession)
        .where(_detecting(work))
        .values(
            spans_finished=UnfinishedSession.spans_finished + 1,
            stage_since=func.coalesce(UnfinishedSession.stage_since, begun.scalar_subquery()),
            stage_told_at=func.clock_timestamp(),
            waits_for_storage=False,
        )
        .returning(UnfinishedSession.spans_finished >= total.scalar_subquery()),
        execution_options={"synchronize_session": False},
    ).scalar_one_or_none()
    if is_last:
        session_moves.move(tx, _detecting(work), to="aggregating")
    # The session may have been cancelled meanwhile: then it is neither counted nor moved.
    return bool(is_last)


def _detecting(work: SessionWork) -> ColumnElement[bool]:
    """Return the condition of the detecting session that a span belongs to."""
    return and_(
        UnfinishedSession.session_id == work.session_id,
        UnfinishedSession.state == "detecting",
        UnfinishedSession.resplits == work.resplits,
    )


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
    moved = session_moves.move(
        tx,
        _detecting(work) if work.span_index is not None else work.waits(),
        to="splitting",
        work={"resplits": UnfinishedSession.resplits + 1, "spans_finished": 0},
        values={
            "spans_total": 0,
            "pcm_key": None,
            "wide_pcm_key": None,
            "levels_key": None,
            "bands_key": None,
            "spectrogram_key": None,
        },
    )
    if not moved:
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
