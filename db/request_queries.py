"""The records of requests to the API: how they are written, and what is asked of them.

As in :mod:`db.queries`, each function takes a session and never commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from sqlalchemy.orm import Session


class Request(NamedTuple):
    """One row of ``api_requests``, in the order in which it is written."""

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


_COPY = f"COPY api_requests ({', '.join(Request._fields)}) FROM STDIN"


def add_requests(db: Session, rows: Iterable[Request]) -> None:
    """Write records, all of them or none. What the driver raises comes as it is."""
    driver: psycopg.Connection[Any] = db.connection().connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row(row)
