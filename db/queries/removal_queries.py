"""Queries that remove sessions, at their age and on request, with exports and clips of them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Text,
    Uuid,
    and_,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.blobs.keys import (
    UPLOADS,
    export_prefix,
    session_prefix,
    upload_prefix,
)
from db.queries.removed_blob_queries import note_removed
from db.queries.session_queries import is_of
from db.tables.base import JsonObject
from db.tables.exports import CLIP, Export
from db.tables.retention import KeptClip
from db.tables.session_results import SessionResult
from db.tables.sessions import DISCARD_AUDIO, AudioSession
from db.tables.spans import SessionSpan
from db.tables.training import TrainingClip, TrainingJob
from db.tables.unfinished import SessionLeftovers, UnfinishedSession

# --- sessions ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SessionFilter:
    """Which sessions to remove. None or empty means no condition."""

    owner: uuid.UUID | None = None
    states: Sequence[str] = ()
    batch_id: uuid.UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None
    metadata: JsonObject = field(default_factory=dict)

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of their rows."""
        posted, recorded = AudioSession.created_at, AudioSession.recorded_at
        ask = AudioSession.user_metadata.contains
        return (
            is_of(AudioSession, self.owner),
            AudioSession.state.in_(self.states) if self.states else true(),
            true() if self.batch_id is None else AudioSession.batch_id == self.batch_id,
            true() if self.created_from is None else posted >= self.created_from,
            true() if self.created_to is None else posted < self.created_to,
            true() if self.recorded_from is None else recorded >= self.recorded_from,
            true() if self.recorded_to is None else recorded < self.recorded_to,
            ask(self.metadata) if self.metadata else true(),
        )


def count(tx: Session, which: SessionFilter) -> tuple[int, int]:
    """Count the matching sessions: those to remove, and those under legal hold."""
    n_all, n_held = tx.execute(
        select(func.count(), func.count().filter(AudioSession.legal_hold)).where(
            *which.conditions()
        )
    ).one()
    return n_all - n_held, n_held


def page(tx: Session, which: SessionFilter, *, limit: int, most_spans: int) -> Sequence[uuid.UUID]:
    """Return some matching sessions without legal hold, the oldest first.

    Together they have at most ``most_spans`` spans, except that there is always at least one
    session.
    """
    rows = tx.execute(
        select(AudioSession.id, AudioSession.spans_total)
        .where(*which.conditions(), ~AudioSession.legal_hold)
        .order_by(AudioSession.created_at, AudioSession.id)
        .limit(limit)
    )
    return within([(row.id, row.spans_total) for row in rows], most_spans=most_spans)


def within(rows: Sequence[tuple[uuid.UUID, int]], *, most_spans: int) -> list[uuid.UUID]:
    """Return the IDs of the first sessions that together have at most ``most_spans`` spans, and of
    the first in any case.
    """
    n_spans = itertools.accumulate(spans for _, spans in rows)
    return [
        session_id
        for index, ((session_id, _), until) in enumerate(zip(rows, n_spans, strict=True))
        if index == 0 or until <= most_spans
    ]


def lock_sessions(tx: Session, ids: Iterable[uuid.UUID]) -> None:
    """Lock sessions with the work on them, in the order in which their workers do.

    Workers lock a span, then the session's work, then the session. In another order the removal
    could deadlock with them. Spans of sessions without work are not touched by any.
    """
    chosen = sorted(ids)
    tx.execute(
        select(SessionSpan.span_index)
        .join(UnfinishedSession, UnfinishedSession.session_id == SessionSpan.session_id)
        .where(SessionSpan.session_id.in_(chosen))
        .order_by(SessionSpan.session_id, SessionSpan.span_index)
        .with_for_update(of=SessionSpan)
    )
    for table, column in (
        (UnfinishedSession, UnfinishedSession.session_id),
        (AudioSession, AudioSession.id),
    ):
        tx.execute(
            select(column).where(column.in_(chosen)).order_by(column).with_for_update(of=table)
        )


def remove_sessions(tx: Session, which: ColumnElement[bool]) -> set[uuid.UUID]:
    """Remove sessions with all of their rows, and the exports that cover only one of them.

    Workers lose their claims. Return the IDs of the sessions.
    """
    # Of the statement's snapshot, in which the result, removed with its session, is still there.
    finished_at = (
        select(SessionResult.finished_at)
        .where(SessionResult.session_id == AudioSession.id)
        .scalar_subquery()
        .label("finished_at")
    )
    rows = tx.execute(
        delete(AudioSession)
        .where(which)
        .returning(AudioSession.id, finished_at, AudioSession.source_key),
        execution_options={"synchronize_session": False},
    ).all()
    removed = {row.id for row in rows}
    note_removed(
        tx, (session_prefix(row.id) for row in rows), finished_at=[row.finished_at for row in rows]
    )
    uploads = [row.id for row in rows if (row.source_key or "").startswith(UPLOADS)]
    note_removed(tx, map(upload_prefix, uploads))
    if removed:
        remove_exports(tx, Export.session_id.in_(removed))
    return removed


def forget_session(tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None) -> bool | None:
    """Remove a session on request; False if it is under legal hold, None if there is none, or, with
    an owner, none of theirs.

    Clips may remain of a session that was removed at its age: then they are what is removed.
    """
    theirs = select(AudioSession.id).where(
        AudioSession.id == session_id, is_of(AudioSession, owner)
    )
    if tx.execute(theirs).one_or_none() is not None:
        if forget_sessions(tx, [session_id]).ids:
            return True
        # Another request may have removed it while this one waited for the lock.
        return None if tx.execute(theirs).one_or_none() is None else False
    return bool(remove_clips(tx, KeptClip.session_id == session_id, is_of(KeptClip, owner))) or None


class Forgotten(NamedTuple):
    """What :func:`forget_sessions` removed."""

    ids: set[uuid.UUID]
    n_exports: int
    n_clips: int


def forget_sessions(tx: Session, ids: Collection[uuid.UUID]) -> Forgotten:
    """Remove sessions on request: also clips that would outlive them, and every export that may
    contain one of them. Those under legal hold stay.
    """
    lock_sessions(tx, ids)
    free = set(
        tx.scalars(
            select(AudioSession.id).where(AudioSession.id.in_(ids), ~AudioSession.legal_hold)
        )
    )
    if not free:
        return Forgotten(set(), 0, 0)
    n_exports = remove_exports(tx, exists().where(AudioSession.id.in_(free), _may_contain()))
    n_clips = remove_clips(tx, KeptClip.session_id.in_(free))
    return Forgotten(remove_sessions(tx, AudioSession.id.in_(free)), n_exports, n_clips)


def discard_audio(tx: Session, session_id: uuid.UUID) -> None:
    """Remove the sound of an ended session, and keep its results.

    From the commit on it is a session with ``privacy=discard_audio``, whose audio recovery removes.
    The clips that outlive sessions are cut from audio that is served, so there will be none.
    """
    tx.execute(
        update(AudioSession)
        .where(AudioSession.id == session_id)
        .values(privacy=DISCARD_AUDIO, muted_key=None, spectrogram_key=None, audio_removed_at=None),
        execution_options={"synchronize_session": False},
    )
    left = postgresql.insert(SessionLeftovers).values(session_id=session_id, at_once=True)
    tx.execute(
        left.on_conflict_do_update(
            index_elements=["session_id"],
            set_={"finished_at": left.excluded.finished_at, "at_once": True},
        )
    )
    with_audio = Export.format.in_(("clips", CLIP))
    remove_exports(tx, with_audio, exists().where(AudioSession.id == session_id, _may_contain()))


def remove_clips(tx: Session, *which: ColumnElement[bool]) -> int:
    """Remove kept clips; return their number."""
    keys = tx.scalars(
        delete(KeptClip).where(*which).returning(KeptClip.blob_key),
        execution_options={"synchronize_session": False},
    ).all()
    note_removed(tx, keys)
    return len(keys)


def remove_exports(tx: Session, *which: ColumnElement[bool]) -> int:
    """Remove exports; return their number. A worker that is writing one loses its claim."""
    ids = tx.scalars(
        delete(Export).where(*which).returning(Export.id),
        execution_options={"synchronize_session": False},
    ).all()
    note_removed(tx, map(export_prefix, ids))
    return len(ids)


def _may_contain() -> ColumnElement[bool]:
    """Return the condition of exports whose file may contain a session, by its filters.

    Those by state, noise type and confidence are not considered.
    """
    asked = Export.selection

    def unless_asked(name: str, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return or_(~asked.has_key(name), condition)

    times = {name: cast(asked[name].astext, DateTime(timezone=True)) for name in _TIMES}
    return and_(
        or_(Export.all_users, Export.user_id == AudioSession.user_id),
        or_(Export.finished_at.is_(None), Export.finished_at >= AudioSession.created_at),
        unless_asked("session_ids", asked["session_ids"].has_key(cast(AudioSession.id, Text))),
        unless_asked("batch_id", cast(asked["batch_id"].astext, Uuid) == AudioSession.batch_id),
        unless_asked("created_from", AudioSession.created_at >= times["created_from"]),
        unless_asked("created_to", AudioSession.created_at < times["created_to"]),
    )


_TIMES = ("created_from", "created_to")


def models_trained_on(tx: Session, ids: Collection[uuid.UUID]) -> set[uuid.UUID]:
    """Return the models that learned from the recordings of some sessions."""
    found = tx.scalars(
        select(TrainingJob.model_id)
        .join(TrainingClip, TrainingClip.job_id == TrainingJob.id)
        .where(TrainingClip.session_id.in_(ids), TrainingClip.outcome == "used")
    )
    return {model_id for model_id in found if model_id is not None}
