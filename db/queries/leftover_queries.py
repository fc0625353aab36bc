"""Queries for the blobs of ended sessions that are no longer needed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, case, func, or_, select, union, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries.session_queries import SOURCE_ADDRESS
from db.queue import claims
from db.tables.sessions import KEEP, UNFINISHED_STATES, AudioSession


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
    ended = select(
        AudioSession.id,
        case((AudioSession.privacy != KEEP, AudioSession.source_key)).label("upload_key"),
        AudioSession.served_key,
        AudioSession.levels_key,
        AudioSession.levels_answer_key,
        AudioSession.spectrogram_key,
    )
    left_over = ended.where(
        AudioSession.state.not_in(UNFINISHED_STATES),
        or_(
            AudioSession.pcm_key.is_not(None),
            and_(
                AudioSession.tidied_at.is_(None),
                AudioSession.finished_at <= claims.seconds_ago(silent_after_s),
            ),
        ),
    )
    # The order makes Postgres use the partial index, as it overestimates the number of these rows.
    private = ended.where(_must_lose_audio()).order_by(AudioSession.finished_at)
    rows = tx.execute(union(left_over.limit(limit), private.limit(limit)))
    return [
        Leftovers(
            session_id=session_id,
            kept=frozenset(keys),
            unneeded=() if upload is None else (upload,),
        )
        for session_id, upload, *keys in rows
    ]


def _must_lose_audio() -> ColumnElement[bool]:
    """Return the condition of ended sessions whose audio must still be removed for privacy."""
    return and_(
        AudioSession.privacy != KEEP,
        AudioSession.audio_removed_at.is_(None),
        AudioSession.finished_at.is_not(None),
    )


def has_ended(tx: Session, session_id: uuid.UUID) -> bool:
    """Whether a session has ended and is not being retried."""
    ended = select(AudioSession.finished_at).where(AudioSession.id == session_id)
    return tx.execute(ended).scalar_one_or_none() is not None


def note_purged(tx: Session, session_id: uuid.UUID, *, silent_after_s: float) -> None:
    """Record that the blobs which an ended session does not need are removed."""
    is_last = AudioSession.finished_at <= claims.seconds_ago(silent_after_s)
    tx.execute(
        update(AudioSession)
        .where(AudioSession.id == session_id, AudioSession.finished_at.is_not(None))
        .values(
            pcm_key=None,
            wide_pcm_key=None,
            bands_key=None,
            source_url=SOURCE_ADDRESS,
            audio_removed_at=case(
                (_must_lose_audio(), func.clock_timestamp()), else_=AudioSession.audio_removed_at
            ),
            tidied_at=case((is_last, func.clock_timestamp()), else_=AudioSession.tidied_at),
        ),
        execution_options={"synchronize_session": False},
    )
