"""Queries for the blobs of ended sessions that are no longer needed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func, select, update
from sqlalchemy.orm import Session

from db.queries import removal_passes
from db.queries.session_queries import SOURCE_ADDRESS
from db.tables.session_results import FINAL_STATES
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
        .where(removal_passes.is_due(SessionLeftovers, silent_after_s=silent_after_s))
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


def has_ended(tx: Session, session_id: uuid.UUID) -> bool:
    """Whether a session has ended and is not being retried."""
    state = select(AudioSession.state).where(AudioSession.id == session_id)
    return tx.execute(state).scalar_one_or_none() in FINAL_STATES


def note_purged(tx: Session, session_id: uuid.UUID, *, silent_after_s: float) -> None:
    """Record that the blobs which an ended session does not need are removed."""
    must_lose_audio = and_(AudioSession.privacy != KEEP, AudioSession.audio_removed_at.is_(None))
    tx.execute(
        update(AudioSession)
        .where(AudioSession.id == session_id, AudioSession.state.in_(FINAL_STATES))
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
    removal_passes.note_pass(tx, SessionLeftovers, left, silent_after_s=silent_after_s)
