"""The pipeline in this process, step by step, over a real Postgres."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, ProcessAudioFile, SplitRecording
from actors.recovery import take_stalled
from db.blobs.keys import recording_key
from db.queries import session_queries, span_queries
from db.queue import session_moves
from db.tables.detections import NoiseDetection
from db.tables.documents.sessions import Summary
from db.tables.session_results import SessionResult
from db.tables.sessions import UNFINISHED_STATES, AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import SessionLeftovers, UnfinishedSession
from tests.support import accounts


def add(runtime: Runtime, content: bytes, **values: Any) -> uuid.UUID:
    """Add a session as after an upload, with the values of the request."""
    session_id = uuid.uuid4()
    runtime.blobs.put(recording_key(session_id), content)
    with runtime.store.transaction() as tx:
        session_queries.add_session(
            tx,
            id=session_id,
            user_id=accounts.TEAM,
            file_name="a.flac",
            size_bytes=len(content),
            recording_key=recording_key(session_id),
            **values,
        )
    return session_id


def summary_of(session: AudioSession) -> Summary:
    """Return the summary of an ended session."""
    return msgspec.convert(session.summary, Summary)


def detections_of(tx: Session, session_id: uuid.UUID) -> list[NoiseDetection]:
    """Return a session's events in order of their onsets."""
    of_session = select(NoiseDetection).where(NoiseDetection.session_id == session_id)
    return list(tx.scalars(of_session.order_by(NoiseDetection.event_index)))


def session(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    """Return the current row of a session."""
    with runtime.store.transaction() as tx:
        found = session_queries.get_session(tx, session_id)
    assert found is not None
    return found


def work_of(runtime: Runtime, session_id: uuid.UUID) -> UnfinishedSession:
    """Return the current row of the work on an unfinished session."""
    with runtime.store.transaction() as tx:
        found = tx.get(UnfinishedSession, session_id)
    assert found is not None
    return found


def put_into(
    tx: Session,
    session_id: uuid.UUID,
    state: str,
    *,
    work: Mapping[str, Any] | None = None,
    **values: Any,
) -> None:
    """Write a state and other columns to a session and its result, and renew its work, without a
    claim.
    """
    of_result = {name: values.pop(name) for name in session_moves.OF_RESULT if name in values}
    for table in (UnfinishedSession, SessionLeftovers):
        tx.execute(delete(table).where(table.session_id == session_id))
    written = (
        update(AudioSession)
        .where(AudioSession.id == session_id)
        .values(state=state, **values)
        .returning(*session_moves.QUEUED)
    )
    if state not in UNFINISHED_STATES:
        tx.execute(written)
        put_result(tx, session_id, **{"outcome": state, "finished_at": func.now()} | of_result)
        return
    session_moves.queue(tx, written.cte())
    tx.execute(
        update(UnfinishedSession)
        .where(UnfinishedSession.session_id == session_id)
        .values(state=state, **(work or {}))
    )
    put_result(tx, session_id, **{"outcome": None, "finished_at": None} | of_result)


def put_result(tx: Session, session_id: uuid.UUID, **values: Any) -> None:
    """Write columns of the result of a session; add the row if it is missing."""
    of_session = select(AudioSession.id, AudioSession.user_id, AudioSession.created_at).where(
        AudioSession.id == session_id
    )
    adding = postgresql.insert(SessionResult).from_select(
        ["session_id", "user_id", "created_at"], of_session
    )
    copies = {"created_at": adding.excluded.created_at, "user_id": adding.excluded.user_id}
    tx.execute(adding.on_conflict_do_update(index_elements=["session_id"], set_=copies))
    tx.execute(update(SessionResult).where(SessionResult.session_id == session_id).values(**values))


def age_ends(tx: Session, *, days: float, session_id: uuid.UUID | None = None) -> None:
    """Let a session, or all, have ended some days ago."""
    which = () if session_id is None else (SessionResult.session_id == session_id,)
    ago = func.now() - timedelta(days=days)
    tx.execute(update(SessionResult).where(*which).values(finished_at=ago))


def span(runtime: Runtime, session_id: uuid.UUID, index: int) -> SessionSpan:
    """Return the current row of a span."""
    with runtime.store.transaction() as tx:
        found = span_queries.get_span(tx, session_id, index)
    assert found is not None
    return found


def handle(runtime: Runtime, nudge: Nudge) -> None:
    """Handle a message by its actor."""
    worker.HANDLERS[type(nudge)](runtime, nudge)


def split(runtime: Runtime, content: bytes, **values: Any) -> uuid.UUID:
    """Add a session and split it, so that its spans are pending."""
    session_id = add(runtime, content, **values)
    handle(runtime, ProcessAudioFile(session_id=session_id))
    handle(runtime, SplitRecording(session_id=session_id))
    assert session(runtime, session_id).state == "detecting"
    return session_id


def run_to_the_end(runtime: Runtime, session_id: uuid.UUID) -> AudioSession:
    """Handle every nudge twice, in the order of the rows, until none is left."""
    for _ in range(20):
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=100)
        for nudge in found * 2:
            handle(runtime, nudge)
        if not found:
            break
    return session(runtime, session_id)
