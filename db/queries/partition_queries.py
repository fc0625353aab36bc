"""Partitions of a month each: of the request log, and of the metrics of runs.

The functions of the schema that create and drop them run as its owner, since the application has no
DDL (``db/tables/routines.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, column, exists, func, select, table, text
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


def drop_partition(tx: Session, parent: str, *, older_than: timedelta) -> str | None:
    """Drop the oldest partition of a table if all its rows are older than this; return its name.

    Readers and writers of the table wait until the end of the transaction.

    Raises
    ------
    sqlalchemy.exc.OperationalError
        If another transaction uses the table for longer than the function waits, 0.2 s.
    """
    return tx.scalar(select(func.drop_partition(parent, older_than)))


_inherits = table("pg_inherits", column("inhrelid"), column("inhparent"), schema="pg_catalog")


def is_partitioned_now(parent: str) -> ColumnElement[bool]:
    """Return the condition that a table has the partition of this month.

    A table that was detached keeps its name.
    """
    month = func.to_char(func.timezone("UTC", func.now()), "_YYYY_MM")
    return exists().where(
        _inherits.c.inhrelid == func.to_regclass(func.concat(parent, month)),
        _inherits.c.inhparent == func.to_regclass(parent),
    )


class Bounds(NamedTuple):
    """The begin of a partition, and its end."""

    begins: datetime
    ends: datetime


_BOUNDS = text("""
    SELECT name, CAST(bounds[1] AS timestamptz) AS begins, CAST(bounds[2] AS timestamptz) AS ends
    FROM unnest(CAST(:tables AS text[])) AS name
    JOIN pg_inherits ON inhparent = to_regclass(name)
    JOIN pg_class ON pg_class.oid = inhrelid
    CROSS JOIN LATERAL regexp_match(
        pg_get_expr(relpartbound, pg_class.oid), $$FROM \\('([^']+)'\\) TO \\('([^']+)'\\)$$
    ) AS bounds
    WHERE bounds IS NOT NULL
    ORDER BY begins
""")


def bounds(tx: Session) -> Mapping[str, Sequence[Bounds]]:
    """Return the bounds of the partitions by table, the oldest first."""
    found: dict[str, list[Bounds]] = {REQUESTS: [], METRICS: []}
    for row in tx.execute(_BOUNDS, {"tables": list(found)}):
        found[row.name].append(Bounds(row.begins, row.ends))
    return found
