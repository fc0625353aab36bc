"""Moves of sessions from state to state, from their first state to their last.

A session has a row in `audio_sessions`, one in `unfinished_sessions` until it ends, and one in
`session_results` from the time when its recording is decoded, or else from its end. A move writes
them in one statement, and locks them in the order of the work, the session, and the result, so that
two moves cannot deadlock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Executable,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from db.tables.base import untried_now
from db.tables.session_results import SessionResult
from db.tables.sessions import KEEP, UNFINISHED_STATES, AudioSession
from db.tables.unfinished import NO_LANE, SessionLeftovers, UnfinishedSession

#: The values of a session's work at the beginning of a stage, besides the state.
BEGINNING: Mapping[str, Any] = {
    **untried_now(),
    "attempt": UnfinishedSession.first_claim,
    "uncounted": UnfinishedSession.first_claim,
    "stage_share": 0,
    "stage_since": None,
    "stage_told_at": None,
    "backbone_missed_at": None,
}
#: What a statement that adds or restarts sessions returns of them to :func:`queue`.
QUEUED = (
    AudioSession.id,
    AudioSession.user_id,
    AudioSession.batch_id,
    AudioSession.priority,
    AudioSession.created_at,
)
#: What a move copies from the work to the session.
CARRIED = (
    UnfinishedSession.session_id,
    UnfinishedSession.started_at,
    UnfinishedSession.spans_finished,
)
#: What a move writes to the result of a session instead of its row.
OF_RESULT = ("duration_s", "max_confidence", "finished_at")


def queue(tx: Session, sessions: CTE, **values: ColumnElement[Any]) -> list[uuid.UUID]:
    """Add the work on sessions that are queued, each in its lane; return their IDs.

    ``sessions`` is a statement that writes them and returns `QUEUED`.
    """
    return list(tx.scalars(queueing(sessions, **values)))


def queueing(sessions: CTE, **values: ColumnElement[Any]) -> ReturningInsert[uuid.UUID]:
    """Return the statement of :func:`queue`."""
    row: dict[str, ColumnElement[Any]] = {
        "session_id": sessions.c.id,
        "state": literal("queued"),
        "priority": sessions.c.priority,
        "batch_id": sessions.c.batch_id,
        "lane": func.coalesce(sessions.c.user_id, sessions.c.batch_id, NO_LANE),
        "created_at": sessions.c.created_at,
        **values,
    }
    added = insert(UnfinishedSession).from_select(list(row), select(*row.values()))
    return added.returning(UnfinishedSession.session_id)


def move(
    tx: Session,
    which: ColumnElement[bool],
    *,
    to: str,
    values: Mapping[str, Any] | None = None,
    work: Mapping[str, Any] | None = None,
) -> Sequence[uuid.UUID]:
    """Move the unfinished sessions that match ``which`` to another state; return their IDs.

    They arrive there unclaimed and due at once. ``values`` are written to the sessions and their
    results, ``work`` to their work. A final state removes the work, and leaves the session to
    recovery, which removes its leftovers.
    """
    unsynchronized = {"synchronize_session": False}
    statement = moving(which, to=to, values=values or {}, work=work or {})
    return tx.scalars(statement, execution_options=unsynchronized).all()


def moving(
    which: ColumnElement[bool], *, to: str, values: Mapping[str, Any], work: Mapping[str, Any]
) -> Executable:
    """Return the statement of :func:`move`, which returns the IDs of the sessions."""
    is_end = to not in UNFINISHED_STATES
    if is_end:
        left = delete(UnfinishedSession).where(which).returning(*CARRIED).cte()
    else:
        begun = {"state": to, **BEGINNING, **work}
        left = update(UnfinishedSession).where(which).values(**begun).returning(*CARRIED).cte()
    written = {
        "state": to,
        "started_at": left.c.started_at,
        "spans_finished": left.c.spans_finished,
        **{name: value for name, value in values.items() if name not in OF_RESULT},
    }
    update_of_session = (
        update(AudioSession).where(AudioSession.id == left.c.session_id).values(**written)
    )
    end = {"outcome": literal(to), "finished_at": func.clock_timestamp()} if is_end else {}
    result = end | {name: values[name] for name in OF_RESULT if name in values}
    if not result:
        return update_of_session.returning(AudioSession.id)
    at_once = or_(AudioSession.pcm_key.is_not(None), AudioSession.privacy != KEEP)
    moved = update_of_session.returning(
        AudioSession.id, AudioSession.user_id, AudioSession.created_at, at_once.label("at_once")
    ).cte()
    with_result = _writing_results(moved, result)
    if not is_end:
        return with_result
    ended = with_result.cte()
    left_over = insert(SessionLeftovers).from_select(
        ["session_id", "finished_at", "at_once"],
        select(ended.c.session_id, ended.c.finished_at, moved.c.at_once).join(
            moved, moved.c.id == ended.c.session_id
        ),
    )
    return left_over.returning(SessionLeftovers.session_id)


def _writing_results(
    sessions: CTE, values: Mapping[str, Any]
) -> ReturningInsert[uuid.UUID, datetime | None]:
    """Return the statement that writes columns of the results of sessions, adding the rows that are
    missing.
    """
    row = {
        "session_id": sessions.c.id,
        "user_id": sessions.c.user_id,
        "created_at": sessions.c.created_at,
        **values,
    }
    adding = postgresql.insert(SessionResult).from_select(
        list(row), select(*map(_as_column, row.items()))
    )
    return adding.on_conflict_do_update(
        index_elements=["session_id"], set_={name: adding.excluded[name] for name in values}
    ).returning(SessionResult.session_id, SessionResult.finished_at)


def _as_column(of_row: tuple[str, Any]) -> ColumnElement[Any]:
    """Return a value of a row as a column of the type that it is written to."""
    name, value = of_row
    if isinstance(value, ColumnElement):
        return value
    return literal(value, SessionResult.__table__.columns[name].type)
