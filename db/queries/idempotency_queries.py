"""Queries for requests with an ``Idempotency-Key``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple, TypedDict, Unpack

from sqlalchemy import text, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queue.claims import seconds_from_now
from db.tables.idempotency import IdempotentRequest

#: How long the response to a request can be replayed.
KEPT_S = 24 * 3_600.0


class Claimed(NamedTuple):
    """An attempt at a request, which holds it."""

    user_id: uuid.UUID
    key: str
    attempt: int


class ClaimedRow(NamedTuple):
    """A claimed request: the number of its attempt, and the ID of the row that it creates."""

    attempt: int
    made_id: uuid.UUID


class StoredAnswer(TypedDict):
    """The columns of a response that can be replayed."""

    head_sha256: bytes
    body_sha256: bytes
    status: int
    headers: dict[str, str]
    body: bytes | None


#: Claims a request that is new, was rejected, whose process died, or whose record has expired. The
#: ID of the row that it creates stays the same for every attempt, until the record expires.
_CLAIM = text("""
    INSERT INTO idempotent_requests AS known
        (user_id, key, head_sha256, made_id, attempt, due_at)
    VALUES (:user_id, :key, :head_sha256, :made_id, 1, now() + make_interval(secs => :lease_s))
    ON CONFLICT (user_id, key) DO UPDATE SET
        head_sha256 = excluded.head_sha256,
        body_sha256 = NULL,
        made_id = CASE WHEN known.created_at <= now() - make_interval(secs => :kept_s)
            THEN excluded.made_id ELSE known.made_id END,
        attempt = known.attempt + 1,
        created_at = CASE WHEN known.created_at <= now() - make_interval(secs => :kept_s)
            THEN now() ELSE known.created_at END,
        due_at = excluded.due_at,
        status = NULL, headers = NULL, body = NULL
    WHERE (known.status IS NULL AND known.due_at <= now()
           AND coalesce(known.head_sha256 = excluded.head_sha256, true))
       OR (known.created_at <= now() - make_interval(secs => :kept_s)
           AND (known.status IS NOT NULL OR known.due_at <= now()))
    RETURNING attempt, made_id
""")

_REMOVE_OLD = text("""
    DELETE FROM idempotent_requests WHERE (user_id, key) IN (
        SELECT user_id, key FROM idempotent_requests
        WHERE created_at <= now() - make_interval(secs => :kept_s)
          AND (status IS NOT NULL OR due_at <= now())
        LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")


def claim_request(
    tx: Session,
    user_id: uuid.UUID,
    key: str,
    *,
    head_sha256: bytes,
    made_id: uuid.UUID,
    lease_s: float,
) -> ClaimedRow | None:
    """Claim a request.

    None if it is finished or in progress, or if the key belongs to a different request.
    """
    values = {
        "user_id": user_id,
        "key": key,
        "head_sha256": head_sha256,
        "made_id": made_id,
        "lease_s": lease_s,
        "kept_s": KEPT_S,
    }
    row = tx.execute(_CLAIM, values).one_or_none()
    return None if row is None else ClaimedRow(*row)


def known_request(tx: Session, user_id: uuid.UUID, key: str) -> IdempotentRequest | None:
    """Return the request with a user's key, or None."""
    return tx.get(IdempotentRequest, (user_id, key))


def renew_requests(tx: Session, held: Sequence[Claimed], *, lease_s: float) -> None:
    """Extend the claims of requests in progress."""
    mine = tuple_(IdempotentRequest.user_id, IdempotentRequest.key, IdempotentRequest.attempt)
    tx.execute(
        update(IdempotentRequest)
        .where(mine.in_(held), IdempotentRequest.status.is_(None))
        .values(due_at=seconds_from_now(lease_s))
    )


def answer_request(tx: Session, claimed: Claimed, **values: Unpack[StoredAnswer]) -> None:
    """Store the response to a request, unless another process has claimed it meanwhile."""
    tx.execute(update(IdempotentRequest).where(_is_held(claimed)).values(**values))


def release_request(tx: Session, claimed: Claimed, *, was_refused: bool) -> None:
    """Release a request to be claimed again at once.

    After a rejection the key accepts any request, since the caller may have corrected it.
    """
    values: dict[str, object] = {"due_at": seconds_from_now(0)}
    if was_refused:
        values["head_sha256"] = None
    tx.execute(update(IdempotentRequest).where(_is_held(claimed)).values(**values))


def remove_old_answers(tx: Session, *, older_than_s: float, limit: int) -> int:
    """Remove some responses older than this; return their number."""
    removed = tx.execute(_REMOVE_OLD, {"kept_s": older_than_s, "limit": limit})
    return int(removed.rowcount)  # type: ignore[attr-defined]


def _is_held(claimed: Claimed) -> ColumnElement[bool]:
    return (
        (IdempotentRequest.user_id == claimed.user_id)
        & (IdempotentRequest.key == claimed.key)
        & (IdempotentRequest.attempt == claimed.attempt)
        & IdempotentRequest.status.is_(None)
    )
