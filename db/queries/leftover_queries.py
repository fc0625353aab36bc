"""Queries for the blobs of ended sessions that are no longer needed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, delete, func, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries.session_queries import SOURCE_ADDRESS
from db.queue import claims
from db.tables.sessions import KEEP, AudioSession
from db.tables.unfinished import SessionLeftovers


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """An ended session with blobs that it does not need."""

    session_id: uuid.UUID
    #: The keys below its prefix that it needs.
    kept: frozenset[str | None]
    #: Keys elsewhere that it does not need.
    unneeded: tuple[str, ...]


def sessions_with_leftovers(
    tx: Session, *, silent_after_s: float, limit: int
) -> Sequence[Leftovers]:
    """Return ended sessions with blobs that they do not need.

    Decoded audio, the largest part, is removed at once, as is audio that must not be kept. Each
    session is returned once more when it ended so long ago that no worker can still be writing for
    it.
    """
    is_due = or_(SessionLeftovers.at_once, _is_last(silent_after_s))
    rows = tx.execute(
        select(
            AudioSession.id,
            case((AudioSession.privacy != KEEP, AudioSession.source_key)),
            AudioSession.served_key,
            AudioSession.levels_key,
            AudioSession.levels_answer_key,
            AudioSession.spectrogram_key,
        )
        .join(SessionLeftovers, SessionLeftovers.session_id == AudioSession.id)
        .where(is_due)
        .limit(limit)
    )
    return [
        Leftovers(
            session_id=session_id,
            kept=frozenset(keys),
            unneeded=() if upload is None else (upload,),
        )
        for session_id, upload, *keys in rows
    ]


def _is_last(silent_after_s: float) -> ColumnElement[bool]:
    """Return the condition of sessions that no worker can still be writing for."""
    return SessionLeftovers.finished_at <= claims.seconds_ago(silent_after_s)


def has_ended(tx: Session, session_id: uuid.UUID) -> bool:
    """Whether a session has ended and is not being retried."""
    ended = select(AudioSession.finished_at).where(AudioSession.id == session_id)
    return tx.execute(ended).scalar_one_or_none() is not None


def note_purged(tx: Session, session_id: uuid.UUID, *, silent_after_s: float) -> None:
    """Record that the blobs which an ended session does not need are removed."""
    must_lose_audio = and_(AudioSession.privacy != KEEP, AudioSession.audio_removed_at.is_(None))
    tx.execute(
        update(AudioSession)
        .where(AudioSession.id == session_id, AudioSession.finished_at.is_not(None))
        .values(
            pcm_key=None,
            wide_pcm_key=None,
            bands_key=None,
            source_url=SOURCE_ADDRESS,
            audio_removed_at=case(
                (must_lose_audio, func.clock_timestamp()), else_=AudioSession.audio_removed_at
            ),
        ),
        execution_options={"synchronize_session": False},
    )
    left = SessionLeftovers.session_id == session_id
    tx.execute(
        delete(SessionLeftovers).where(left, _is_last(silent_after_s)),
        execution_options={"synchronize_session": False},
    )
    tx.execute(
        update(SessionLeftovers).where(left, SessionLeftovers.at_once).values(at_once=False),
        execution_options={"synchronize_session": False},
    )
