"""Queries for usage limits: token buckets of requests, and audio per month."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import case, func, select, text, update
from sqlalchemy.orm import Session

from db.statements import CompiledStatement
from db.tables.accounts import User
from db.tables.exports import Export
from db.tables.sessions import PRIORITIES, UNFINISHED_STATES, AudioSession
from db.tables.training import TrainingJob, Validation
from db.tables.unfinished import UnfinishedSession
from db.tables.usage_limits import UsageMonth


class Spent(NamedTuple):
    """The tokens that one process has spent of one key's bucket since it last settled."""

    key_id: str
    tokens: int
    per_s: float
    burst: float


# In a fixed order, so that two processes cannot deadlock. A bucket is capped only after the spent
# tokens are subtracted: tokens also come back while a process cannot settle. The debt is bounded by
# one burst.
_SETTLE = text("""
    INSERT INTO rate_buckets AS bucket (key_id, tokens, per_s, burst, settled_at)
    SELECT spent.key_id, spent.burst - spent.tokens, spent.per_s, spent.burst, clock_timestamp()
    FROM unnest(CAST(:key_ids AS text[]), CAST(:tokens AS float8[]), CAST(:per_s AS float8[]),
                CAST(:bursts AS float8[])) AS spent (key_id, tokens, per_s, burst)
    JOIN api_keys ON api_keys.id = spent.key_id
    ORDER BY spent.key_id
    ON CONFLICT (key_id) DO UPDATE SET
        tokens = greatest(-excluded.burst, least(excluded.burst,
            bucket.tokens - (excluded.burst - excluded.tokens) + excluded.per_s
            * greatest(0, extract(epoch FROM clock_timestamp() - bucket.settled_at)))),
        per_s = excluded.per_s,
        burst = excluded.burst,
        settled_at = greatest(bucket.settled_at, clock_timestamp())
    RETURNING bucket.key_id, bucket.tokens
""")


def settle_buckets(tx: Session, spent: Sequence[Spent]) -> dict[str, float]:
    """Subtract spent tokens from the buckets; return the balance of each."""
    rows = tx.execute(
        _SETTLE,
        {
            "key_ids": [each.key_id for each in spent],
            "tokens": [each.tokens for each in spent],
            "per_s": [each.per_s for each in spent],
            "bursts": [each.burst for each in spent],
        },
    )
    return {row.key_id: row.tokens for row in rows}


# Counted in the month of the post, not in that of its processing.
_COUNT_AUDIO = CompiledStatement(
    text("""
    WITH settled AS (
        UPDATE unfinished_sessions SET reserved_s = 0
        WHERE session_id = :session_id AND reserved_s > 0
    )
    INSERT INTO usage_months AS used (user_id, month, audio_s, sessions)
    SELECT user_id, date_trunc('month', created_at AT TIME ZONE 'UTC'), :audio_s, 1
    FROM audio_sessions WHERE id = :session_id AND user_id IS NOT NULL
    ON CONFLICT (user_id, month) DO UPDATE SET
        audio_s = used.audio_s + excluded.audio_s, sessions = used.sessions + 1
""")
)


def count_audio(tx: Session, session_id: uuid.UUID, *, audio_s: float) -> None:
    """Count a recording for its user, in the transaction that writes its duration, in place of what
    was reserved for it.
    """
    _COUNT_AUDIO.run(tx, session_id=session_id, audio_s=audio_s)


class MonthlyAudio(NamedTuple):
    """The audio of a user in this month, in seconds, and when the next month begins."""

    used_s: float
    #: Of recordings that were accepted and are not counted yet.
    reserved_s: float
    renews_at: datetime


_THIS_MONTH = text("""
    SELECT
        coalesce((
            SELECT audio_s FROM usage_months
            WHERE user_id = :user_id AND month = (this.month AT TIME ZONE 'UTC')::date
        ), 0),
        coalesce((
            SELECT sum(reserved_s) FROM unfinished_sessions
            WHERE state = ANY(:states) AND priority = ANY(:priorities) AND lane = :user_id
        ), 0),
        this.month + interval '1 month'
    FROM (SELECT date_trunc('month', now(), 'UTC') AS month) AS this
""")
#: All values of the first columns of the index of the order of claims, which leads to a lane.
_ANY_TURN = {"states": list(UNFINISHED_STATES), "priorities": list(range(len(PRIORITIES)))}


def audio_this_month(tx: Session, user_id: uuid.UUID) -> MonthlyAudio:
    """Return the audio that a user has used and reserved this month."""
    return MonthlyAudio(*tx.execute(_THIS_MONTH, {"user_id": user_id, **_ANY_TURN}).one())


def audio_limit_s(tx: Session, user_id: uuid.UUID) -> float | None:
    """Return a user's own limit of audio per month; None if the limit of the installation holds."""
    return tx.scalar(select(User.max_audio_s_per_month).where(User.id == user_id))


def reserved_s(tx: Session, session_id: uuid.UUID) -> float:
    """Return the seconds of audio that are reserved for a session; 0 if it has ended."""
    reserved = UnfinishedSession.reserved_s
    return tx.scalar(select(reserved).where(UnfinishedSession.session_id == session_id)) or 0.0


def reserve(tx: Session, session_id: uuid.UUID, *, audio_s: float) -> None:
    """Reserve seconds of audio for a session, in place of what was reserved for it."""
    session = update(UnfinishedSession).where(UnfinishedSession.session_id == session_id)
    tx.execute(session.values(reserved_s=audio_s))


def lock_user(tx: Session, user_id: uuid.UUID) -> None:
    """Have other transactions that check a limit of the same user wait for the end of this one."""
    tx.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


_UNFINISHED = text("""
    SELECT count(*) FROM (
        SELECT FROM unfinished_sessions
        WHERE state = ANY(:states) AND priority = ANY(:priorities) AND lane = :user_id
        LIMIT :limit
    ) AS found
""")


def unfinished_sessions(tx: Session, user_id: uuid.UUID, *, limit: int) -> int:
    """Return the number of a user's unfinished sessions, at most ``limit``."""
    given = {"user_id": user_id, "limit": limit, **_ANY_TURN}
    return int(tx.execute(_UNFINISHED, given).scalar_one())


#: Decoded audio has this many bytes a sample before it is packed; packing adds less than 0.1 %.
_DECODED_BYTES = 2
#: The most bytes of a session's decoded audio, where that at 32 kHz has twice as many samples as
#: that at 16 kHz.
_MOST_DECODED = (
    AudioSession.n_samples
    * _DECODED_BYTES
    * (
        case((AudioSession.pcm_key.is_not(None), 1), else_=0)
        + case((AudioSession.wide_pcm_key.is_not(None), 2), else_=0)
    )
)


def stored_bytes(tx: Session, user_id: uuid.UUID) -> int:
    """Return the bytes of a user's recordings, as they were posted, and of their decoded audio.

    Decoded audio counts while it is stored, with its size before packing, so with its upper bound.
    All of the user's sessions are added up, which takes a second for a million.
    """
    size_bytes = AudioSession.size_bytes + func.coalesce(_MOST_DECODED, 0)
    found = select(func.coalesce(func.sum(size_bytes), 0)).where(
        AudioSession.user_id == user_id, AudioSession.audio_removed_at.is_(None)
    )
    return int(tx.execute(found).scalar_one() or 0)


def pending_jobs(
    tx: Session, user_id: uuid.UUID, *tables: type[Export | TrainingJob | Validation]
) -> int:
    """Return the number of a user's unfinished rows of some kinds of jobs."""
    counts = (
        tx.execute(
            select(func.count()).where(table.user_id == user_id, table.state == "pending")
        ).scalar_one()
        for table in tables
    )
    return sum(counts)


def months_of(tx: Session, user_id: uuid.UUID, *, limit: int) -> Sequence[UsageMonth]:
    """Return the usage of a user by month, the newest first."""
    return tx.scalars(
        select(UsageMonth)
        .where(UsageMonth.user_id == user_id)
        .order_by(UsageMonth.month.desc())
        .limit(limit)
    ).all()
