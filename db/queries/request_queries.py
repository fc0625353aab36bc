"""Queries for the request log of the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import BigInteger, Subquery, delete, func, select
from sqlalchemy.orm import Session

from db.queries.partition_queries import PartitionMissing
from db.queue import claims
from db.tables.accounts import ApiKey
from db.tables.requests import APIRequest, RequestMinute


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
    """Write requests, all of them or none, and add them to the sums of their keys and minutes.

    Other exceptions of the driver propagate unchanged.

    Raises
    ------
    PartitionMissing
        If the month of a request has no partition.
    """
    driver = tx.connection().connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    minutes: _Minutes = {}
    try:
        with driver.cursor() as cursor:
            with cursor.copy(_COPY) as copy:
                for row in rows:
                    copy.write_row(row)
                    _add_to(minutes, row)
            _write_minutes(cursor, minutes)
    except psycopg.errors.CheckViolation as error:
        # The table has no other check.
        raise PartitionMissing(str(error)) from error


#: Requests, errors, bytes in and bytes out by minute, key and user.
_Minutes = dict[tuple[datetime, str, uuid.UUID | None], list[int]]


def _add_to(minutes: _Minutes, row: RequestRow) -> None:
    if row.key_id is None:
        return
    minute = row.received_at.replace(second=0, microsecond=0)
    sums = minutes.setdefault((minute, row.key_id, row.user_id), [0, 0, 0, 0])
    for index, more in enumerate((1, row.status >= 400, row.bytes_in, row.bytes_out)):
        sums[index] += more


# In a fixed order, so that two processes cannot deadlock.
_ADD_MINUTE = """
    INSERT INTO request_minutes AS known
        (minute, key_id, user_id, requests, errors, bytes_in, bytes_out)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (minute, key_id) DO UPDATE SET
        requests = known.requests + excluded.requests,
        errors = known.errors + excluded.errors,
        bytes_in = known.bytes_in + excluded.bytes_in,
        bytes_out = known.bytes_out + excluded.bytes_out
"""


def _write_minutes(cursor: psycopg.Cursor[Any], minutes: _Minutes) -> None:
    cursor.executemany(
        _ADD_MINUTE,
        [(*key, *sums) for key, sums in sorted(minutes.items(), key=lambda each: each[0][:2])],
    )


def remove_old_minutes(tx: Session, *, older_than_s: float, limit: int) -> int:
    """Remove some sums of minutes older than this; return their number."""
    page = (
        select(RequestMinute.minute, RequestMinute.key_id)
        .where(RequestMinute.minute < claims.seconds_ago(older_than_s))
        .order_by(RequestMinute.minute, RequestMinute.key_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte()
    )
    removed = tx.execute(
        delete(RequestMinute)
        .where(
            RequestMinute.minute == page.c.minute,
            RequestMinute.key_id == page.c.key_id,
        )
        .returning(RequestMinute.key_id),
        execution_options={"synchronize_session": False},
    )
    return len(removed.all())


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
    return _with_names(tx, used)


def usage_of_user(
    tx: Session, user_id: uuid.UUID, *, since: datetime, until: datetime
) -> list[UsedKey]:
    """Return the usage of each key of a user in whole minutes, from that of ``since`` to before
    that of ``until`` if it is a whole minute, else with that: the most used first.
    """
    used = (
        select(
            RequestMinute.key_id,
            *(
                func.sum(column).cast(BigInteger).label(column.key)
                for column in (
                    RequestMinute.requests,
                    RequestMinute.errors,
                    RequestMinute.bytes_in,
                    RequestMinute.bytes_out,
                )
            ),
        )
        .where(
            RequestMinute.user_id == user_id,
            RequestMinute.minute >= since.replace(second=0, microsecond=0),
            RequestMinute.minute < until,
        )
        .group_by(RequestMinute.key_id)
        .subquery()
    )
    return _with_names(tx, used)


def _with_names(tx: Session, used: Subquery) -> list[UsedKey]:
    rows = tx.execute(
        select(used, ApiKey.name)
        .outerjoin(ApiKey, ApiKey.id == used.c.key_id)
        .order_by(used.c.requests.desc(), used.c.key_id)
    )
    return [UsedKey(*row) for row in rows]
