"""Queries for the owner of the blob store and for orphaned blobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import CursorResult, delete, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.queue import claims
from db.tables.retention import Installation, OrphanBlob

#: Identifies the cluster and the database in it. Neither is part of a dump, so a restored database
#: differs.
DATABASE = text("""
    SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || oid
    FROM pg_database WHERE datname = current_database()
""")
#: Changes when a database is restored in its place: to a point in time, or from a dump.
INCARNATION = text("""
    SELECT (SELECT timeline_id FROM pg_control_checkpoint()) || '/' || xmin FROM installation
""")


def identity(tx: Session) -> tuple[uuid.UUID, str, str]:
    """Return the ID of the installation, what distinguishes this database from its copies, and what
    distinguishes it from itself before a restore.
    """
    installation_id = tx.scalars(select(Installation.id)).one()
    return (
        installation_id,
        tx.execute(DATABASE).scalar_one(),
        tx.execute(INCARNATION).scalar_one(),
    )


def note_orphans(tx: Session, keys: Iterable[str], *, seen_at: datetime) -> int:
    """Record blobs that no row names; return how many of them are not marked yet."""
    rows = [{"key": key, "seen_at": seen_at} for key in keys]
    if not rows:
        return 0
    noted = postgresql.insert(OrphanBlob).values(rows)
    marked = tx.scalars(
        noted.on_conflict_do_update(
            index_elements=["key"], set_={"seen_at": noted.excluded.seen_at}
        ).returning(OrphanBlob.marked_at)
    )
    return sum(at is None for at in marked)


def forget_others(tx: Session, *, seen_at: datetime) -> None:
    """Remove the records, with their marks, of blobs that a run did not find as orphans.

    These blobs have a row again, were written again, or no longer exist.
    """
    tx.execute(
        delete(OrphanBlob).where(OrphanBlob.seen_at < seen_at),
        execution_options={"synchronize_session": False},
    )


def mark_orphans(tx: Session, *, seen_at: datetime) -> int:
    """Mark the blobs that a run found; return how many were not marked before."""
    marked = tx.execute(
        update(OrphanBlob)
        .where(OrphanBlob.seen_at == seen_at, OrphanBlob.marked_at.is_(None))
        .values(marked_at=seen_at),
        execution_options={"synchronize_session": False},
    )
    assert isinstance(marked, CursorResult)
    return marked.rowcount


def page_marked(
    tx: Session, *, older_than_s: float, seen_at: datetime, limit: int
) -> Sequence[str]:
    """Return a page of blobs whose marks are old and that a run has found as orphans again."""
    return tx.scalars(
        select(OrphanBlob.key)
        .where(
            OrphanBlob.marked_at < claims.seconds_ago(older_than_s),
            OrphanBlob.seen_at == seen_at,
        )
        .order_by(OrphanBlob.key)
        .limit(limit)
    ).all()


def forget(tx: Session, keys: Sequence[str]) -> None:
    """Remove the records of some blobs, marked or not."""
    tx.execute(
        delete(OrphanBlob).where(OrphanBlob.key.in_(keys)),
        execution_options={"synchronize_session": False},
    )


def forget_all(tx: Session) -> None:
    """Remove the records of all blobs, because their marks were made by another database."""
    tx.execute(delete(OrphanBlob))
