"""Queries for the request log of the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import psycopg
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.queries.partition_queries import PartitionMissing
from db.tables.accounts import ApiKey
from db.tables.requests import APIRequest


class RequestRow(NamedTuple):
    """One row of ``api_requests``, with its columns in the order of the COPY statement."""

    request_id: str
    method: str
    route: str
    status: int
    duration_s: float
    bytes_in: int
    bytes_out: int
    key_id: str | None
    user_id: uuid.UUID | None
    session_id: uuid.UUID | None
    received_at: datetime


_COPY = f"COPY api_requests ({', '.join(RequestRow._fields)}) FROM STDIN"


def add_requests(tx: Session, rows: Iterable[RequestRow]) -> None:
    """Write requests, all of them or none. Other exceptions of the driver propagate unchanged.

    Raises
    ------
    PartitionMissing
        If the month of a request has no partition.
    """
    driver = tx.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.errors.CheckViolation as error:
        # The table has no other check.
        raise PartitionMissing(str(error)) from error


class UsedKey(NamedTuple):
    """The requests of one key in a period; ``name`` is None for a removed key."""

    key_id: str
    requests: int
    errors: int
    bytes_in: Decimal
    bytes_out: Decimal
    name: str | None


def usage_of_keys(
    tx: Session, user_id: uuid.UUID | None, *, since: datetime, until: datetime
) -> list[UsedKey]:
    """Return the usage of each key of a user, or of all users, in a period, the most used first."""
    used = (
        select(
            APIRequest.key_id,
            func.count().label("requests"),
            func.count().filter(APIRequest.status >= 400).label("errors"),
            func.sum(APIRequest.bytes_in).label("bytes_in"),
            func.sum(APIRequest.bytes_out).label("bytes_out"),
        )
        .where(
            APIRequest.key_id.is_not(None) if user_id is None else APIRequest.user_id == user_id,
            APIRequest.received_at >= since,
            APIRequest.received_at < until,
        )
        .group_by(APIRequest.key_id)
        .subquery()
    )
    rows = tx.execute(
        select(used, ApiKey.name)
        .outerjoin(ApiKey, ApiKey.id == used.c.key_id)
        .order_by(used.c.requests.desc(), used.c.key_id)
    )
    return [UsedKey(*row) for row in rows]
