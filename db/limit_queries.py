"""What callers use and may use.

As in :mod:`db.queries`, each function takes a session and never commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session


class Spent(NamedTuple):
    """What one process has given away of one key's bucket since it last settled."""

    key_id: str
    tokens: int
    per_s: float
    burst: float


# In one order, so that two processes never wait for each other in a circle. A bucket is capped
# only after what was spent is taken from it: a process that could not settle for a while had its
# tokens come back all the same. What it owes is bounded by one burst.
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


def settle_buckets(db: Session, spent: Sequence[Spent]) -> dict[str, float]:
    """Take what was spent from the buckets, and tell what is left in each."""
    rows = db.execute(
        _SETTLE,
        {
            "key_ids": [each.key_id for each in spent],
            "tokens": [each.tokens for each in spent],
            "per_s": [each.per_s for each in spent],
            "bursts": [each.burst for each in spent],
        },
    )
    return {row.key_id: row.tokens for row in rows}
