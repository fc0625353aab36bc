"""Partitions of a month each: of the request log, and of the metrics of runs.

The functions of the schema that create and drop them run as its owner, since the application has no
DDL (``db/tables/routines.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from db.tables.metrics import ProcessingMetric
from db.tables.requests import APIRequest

#: The tables that are partitioned.
REQUESTS, METRICS = APIRequest.__tablename__, ProcessingMetric.__tablename__


class PartitionMissing(Exception):
    """A row has no partition for its month. Run ``clamor migrate`` or the job ``clean_up``."""


def create_partitions(tx: Session) -> Sequence[str]:
    """Create the missing partitions of this month and the next three; return their names.

    Readers and writers do not wait.
    """
    return tx.scalars(select(func.create_partitions())).all()


def drop_partition(tx: Session, table: str, *, older_than: timedelta) -> str | None:
    """Drop the oldest partition of a table if all its rows are older than this; return its name.

    Readers and writers of the table wait until the end of the transaction.

    Raises
    ------
    sqlalchemy.exc.OperationalError
        If another transaction uses the table for longer than the function waits, 0.2 s.
    """
    return tx.scalar(select(func.drop_partition(table, older_than)))


def is_partitioned_now(table: str) -> ColumnElement[bool]:
    """Return the condition that a table has the partition of this month."""
    month = func.to_char(func.timezone("UTC", func.now()), "_YYYY_MM")
    return func.to_regclass(func.concat(table, month)).is_not(None)


class Ends(NamedTuple):
    """The end of a table's first partition, and that of its last; None without partitions."""

    first: datetime | None
    last: datetime | None


_ENDS = text("""
    SELECT name, min(ends) AS first, max(ends) AS last
    FROM unnest(CAST(:tables AS text[])) AS name
    LEFT JOIN pg_inherits ON inhparent = to_regclass(name)
    LEFT JOIN pg_class ON pg_class.oid = inhrelid
    LEFT JOIN LATERAL CAST(
        substring(pg_get_expr(relpartbound, pg_class.oid) FROM $$TO \\('([^']+)'\\)$$)
        AS timestamptz
    ) AS ends ON true
    GROUP BY name
""")


def ends(tx: Session) -> Mapping[str, Ends]:
    """Return the ends of the partitions, by table."""
    rows = tx.execute(_ENDS, {"tables": [REQUESTS, METRICS]})
    return {row.name: Ends(row.first, row.last) for row in rows}
