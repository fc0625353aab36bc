"""The engine and its transactions.

A :class:`Store` is made by each process for itself, after any fork: connections that two
processes share gave wrong rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Session, sessionmaker

#: No statement of the product comes near this; one that does is stuck and gives way.
STATEMENT_TIMEOUT_MS = 30_000
#: A lock that is held for longer belongs to something that is wrong.
LOCK_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_S = 5
#: A connection whose other end has been silent for about this long is dead; statements that the
#: server works on keep it alive.
SILENT_PEER = {
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 35_000,
}
#: How long a request waits for a free connection before it is told to try again.
POOL_TIMEOUT_S = 5.0


def driver_url(url: str) -> sqlalchemy.URL:
    """A libpq URL as SQLAlchemy wants it, with the psycopg 3 driver."""
    return sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")


def make_engine(
    url: str,
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    **options: Any,
) -> sqlalchemy.Engine:
    """An engine on whose connections nothing waits for ever. There is no other way to make one.

    The server ends a statement that is stuck; that the server itself has gone without a word is
    noticed by the system, which ends the connection.
    """
    return sqlalchemy.create_engine(
        driver_url(url),
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "clamor",
            "options": (
                f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms}"
                " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC"
            ),
            **SILENT_PEER,
        },
        **options,
    )


class ForkedStore(Exception):
    """A store is used by another process than the one that made it."""


class Store:
    """One process's way to Postgres.

    A process that was forked off has the connections of its parent, and would read the answers to
    the parent's questions: its use of the store raises :class:`ForkedStore`.
    """

    def __init__(self, url: str, *, pool_size: int = 5) -> None:
        self._made_by = os.getpid()
        self._engine = make_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,
        )
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._readers = sessionmaker(
            self._engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False
        )

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine, in the process that made it."""
        self._check_process()
        return self._engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose work is committed at the end, or rolled back by an exception."""
        self._check_process()
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads, each statement in a transaction of its own: two round trips to
        the server less. For questions that are one statement.
        """
        self._check_process()
        with self._readers() as session:
            yield session

    def close(self) -> None:
        """Close every connection; in a forked process none, for they are the parent's."""
        self._engine.dispose(close=os.getpid() == self._made_by)

    def _check_process(self) -> None:
        if os.getpid() != self._made_by:
            raise ForkedStore(
                f"this store was made by process {self._made_by}, before the fork of {os.getpid()}"
            )
