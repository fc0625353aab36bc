"""The two passes in which blobs are removed that nothing needs any more.

A worker that has lost its claim may still be writing some. So they are removed at once, where
nothing else needs them, and once more when no worker can be writing: the row then is removed too.
"""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import ColumnElement, delete, or_, update
from sqlalchemy.orm import Session

from db.queue import claims
from db.tables.retention import RemovedBlobs
from db.tables.unfinished import SessionLeftovers

#: A table whose rows name blobs to remove.
Table: TypeAlias = type[RemovedBlobs] | type[SessionLeftovers]


def is_due(table: Table, *, silent_after_s: float) -> ColumnElement[bool]:
    """Return the condition of rows whose blobs are to be removed now."""
    return or_(table.at_once, _is_last(table, silent_after_s))


def note_pass(
    tx: Session, table: Table, which: ColumnElement[bool], *, silent_after_s: float
) -> None:
    """Record that the blobs of some rows are removed."""
    for statement in (
        delete(table).where(which, _is_last(table, silent_after_s)),
        update(table).where(which, table.at_once).values(at_once=False),
    ):
        tx.execute(statement, execution_options={"synchronize_session": False})


def _is_last(table: Table, silent_after_s: float) -> ColumnElement[bool]:
    """Return the condition of rows whose blobs no worker can still be writing."""
    return table.finished_at <= claims.seconds_ago(silent_after_s)
