"""Moves of sessions from state to state, from their first state to their last.

A session has a row in `audio_sessions`, and one in `unfinished_sessions` until it ends. A move
writes both in one statement, and locks the latter first, so that two moves cannot deadlock.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
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
from sqlalchemy.orm import Session

from db.tables.base import untried_now
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


def queue(tx: Session, sessions: CTE, **values: ColumnElement[Any]) -> list[uuid.UUID]:
    """Add the work on sessions that are queued, each in its lane; return their IDs.

    ``sessions`` is a statement that writes them and returns `QUEUED`.
    """
    row: dict[str, ColumnElement[Any]] = {
        "session_id": sessions.c.id,
        "state": literal("queued"),
        "priority": sessions.c.priority,
        "lane": func.coalesce(sessions.c.user_id, sessions.c.batch_id, NO_LANE),
        "created_at": sessions.c.created_at,
        **values,
    }
    added = insert(UnfinishedSession).from_select(list(row), select(*row.values()))
    return list(tx.scalars(added.returning(UnfinishedSession.session_id)))


def move(
    tx: Session,
    which: ColumnElement[bool],
    *,
    to: str,
    values: Mapping[str, Any] | None = None,
    work: Mapping[str, Any] | None = None,
) -> Sequence[uuid.UUID]:
    """Move the unfinished sessions that match ``which`` to another state; return their IDs.

    They arrive there unclaimed and due at once. ``values`` are written to the sessions, ``work`` to
    their work. A final state removes the work, and leaves the session to recovery, which removes
    its leftovers.
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
        **({"finished_at": func.clock_timestamp()} if is_end else {}),
        **values,
    }
    moved = update(AudioSession).where(AudioSession.id == left.c.session_id).values(**written)
    if not is_end:
        return moved.returning(AudioSession.id)
    at_once = or_(AudioSession.pcm_key.is_not(None), AudioSession.privacy != KEEP)
    ended = moved.returning(AudioSession.id, AudioSession.finished_at, at_once).cte()
    left_over = insert(SessionLeftovers).from_select(
        ["session_id", "finished_at", "at_once"], select(ended)
    )
    return left_over.returning(SessionLeftovers.session_id)
