"""Queries for usage limits: token buckets of requests, and audio per month."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.statements import CompiledStatement
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
    INSERT INTO usage_months AS used (user_id, month, audio_s, sessions)
    SELECT user_id, date_trunc('month', created_at AT TIME ZONE 'UTC'), :audio_s, 1
    FROM audio_sessions WHERE id = :session_id AND user_id IS NOT NULL
    ON CONFLICT (user_id, month) DO UPDATE SET
        audio_s = used.audio_s + excluded.audio_s, sessions = used.sessions + 1
""")
)


def count_audio(tx: Session, session_id: uuid.UUID, *, audio_s: float) -> None:
    """Count a recording for its user, in the transaction that writes its duration."""
    _COUNT_AUDIO.run(tx, session_id=session_id, audio_s=audio_s)


_USED = text("""
    SELECT coalesce(sum(audio_s), 0) AS used_s, this.month + interval '1 month' AS renews_at
    FROM (SELECT date_trunc('month', now(), 'UTC') AS month) AS this
    LEFT JOIN usage_months
        ON usage_months.user_id = :user_id
        AND usage_months.month = (this.month AT TIME ZONE 'UTC')::date
    GROUP BY this.month
""")


def used_this_month(tx: Session, user_id: uuid.UUID) -> tuple[float, datetime]:
    """Return the seconds of audio that a user has used this month, and the start of the next."""
    row = tx.execute(_USED, {"user_id": user_id}).one()
    return row.used_s, row.renews_at


def months_of(tx: Session, user_id: uuid.UUID, *, limit: int) -> Sequence[UsageMonth]:
    """Return the usage of a user by month, the newest first."""
    return tx.scalars(
        select(UsageMonth)
        .where(UsageMonth.user_id == user_id)
        .order_by(UsageMonth.month.desc())
        .limit(limit)
    ).all()
