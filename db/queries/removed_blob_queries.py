"""Queries for the blobs of removed rows.

`RemovedBlobs` names them, in the transaction that removes the row. Recovery then removes them, and
once more when no worker can still be writing one of them. So it does not matter when a process
dies, and a worker that loses its claim by the removal leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Boolean, func, literal_column, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.queries import removal_passes
from db.tables.retention import RemovedBlobs

#: Rows per statement.
PAGE_PREFIXES = 1_000


def note_removed(
    tx: Session, prefixes: Iterable[str], *, finished_at: Sequence[datetime | None] | None = None
) -> None:
    """Have blobs removed whose row is removed by the same transaction.

    ``finished_at`` are the times since which no worker writes them, where these are past already.
    """
    chosen = list(prefixes)
    times = [None] * len(chosen) if finished_at is None else finished_at
    rows = [
        {"prefix": prefix, "finished_at": func.now() if time is None else time}
        for prefix, time in zip(chosen, times, strict=True)
    ]
    for first in range(0, len(rows), PAGE_PREFIXES):
        noted = postgresql.insert(RemovedBlobs).values(rows[first : first + PAGE_PREFIXES])
        again = {"finished_at": noted.excluded.finished_at, "at_once": True}
        tx.execute(noted.on_conflict_do_update(index_elements=["prefix"], set_=again))


def noted_now(tx: Session) -> Sequence[str]:
    """Return the prefixes that this transaction has noted."""
    is_own = literal_column("removed_blobs.xmin = pg_current_xact_id()::xid", Boolean)
    return tx.scalars(select(RemovedBlobs.prefix).where(is_own)).all()


def removed_prefixes(tx: Session, *, silent_after_s: float, limit: int) -> Sequence[str]:
    """Return the prefixes of blobs to remove: those of removed rows, and again those that no worker
    can still be writing.
    """
    return tx.scalars(
        select(RemovedBlobs.prefix)
        .where(removal_passes.is_due(RemovedBlobs, silent_after_s=silent_after_s))
        .limit(limit)
    ).all()


def note_purged(tx: Session, prefixes: Sequence[str], *, silent_after_s: float) -> None:
    """Record that the blobs with some prefixes are removed."""
    which = RemovedBlobs.prefix.in_(prefixes)
    removal_passes.note_pass(tx, RemovedBlobs, which, silent_after_s=silent_after_s)
