"""The engine and its transactions.

A :class:`Store` is made by each process for itself, after any fork: connections that two
processes share gave wrong rows.
"""

from __future__ import annotations

import os
import select
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

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
#: A connection that nobody has used for longer is asked whether it still answers before it is
#: used: a round trip to the server, which a busy process is spared.
IDLE_S = 5.0


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
                # For a page of a list, compiling a plan and starting other processes for it take
                # longer than the plan does.
                " -c jit=off -c max_parallel_workers_per_gather=0"
            ),
            **SILENT_PEER,
        },
        **options,
    )


class ForkedStore(Exception):
    """A store is used by another process than the one that made it."""


#: How statements are written for the driver.
_DIALECT = sqlalchemy.make_url("postgresql+psycopg://").get_dialect()()


class CompiledQuery:
    """One statement that answers with one row at most, and that is asked with every request.

    It is compiled once. :meth:`Store.ask` puts it to the driver itself, which takes half as long
    as the way through a session; what comes back are the driver's own values.
    """

    def __init__(self, statement: sqlalchemy.Select[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        if any(value is not None for value in compiled.params.values()):
            raise ValueError("every value of a question is a parameter or a literal")
        self.sql = str(compiled)
        #: Makes an answer, with a name for each column, of a row.
        self.answer: Callable[[Any], Any] = namedtuple(
            "Answer", statement.selected_columns.keys()
        )._make  # type: ignore[attr-defined]


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
            # The one that was used last is the one that knows the most, and that is not idle.
            pool_use_lifo=True,
        )
        _watch(self._engine)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

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
        # To the session this is a transaction; the driver, which begins none, has nothing to send
        # at its end. SQLAlchemy's own switch takes as long as a statement.
        with (
            self._engine.connect() as connection,
            _autocommit(connection.connection),
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    def ask(self, question: CompiledQuery, **values: object) -> Any:
        """The row that answers a question, or None."""
        self._check_process()
        try:
            with self._engine.raw_connection() as pooled, _autocommit(pooled) as connection:
                row = connection.execute(question.sql, values, prepare=True).fetchone()
        except psycopg.Error as error:
            raise DBAPIError.instance(
                question.sql, None, error, psycopg.Error, hide_parameters=True
            ) from error
        return None if row is None else question.answer(row)

    def close(self) -> None:
        """Close every connection; in a forked process none, for they are the parent's."""
        self._engine.dispose(close=os.getpid() == self._made_by)

    def _check_process(self) -> None:
        if os.getpid() != self._made_by:
            raise ForkedStore(
                f"this store was made by process {self._made_by}, before the fork of {os.getpid()}"
            )


@contextmanager
def _autocommit(pooled: PoolProxiedConnection) -> Iterator[psycopg.Connection[Any]]:
    """The driver's connection, which begins no transaction meanwhile."""
    connection: psycopg.Connection[Any] = pooled.dbapi_connection  # type: ignore[assignment]
    connection.autocommit = True
    try:
        yield connection
    finally:
        if not connection.closed:
            connection.autocommit = False
        elif pooled.is_valid:
            pooled.invalidate()


def _watch(engine: sqlalchemy.Engine) -> None:
    """Let no connection be used whose other end has gone.

    A server that ends a connection says so, and what it said waits to be read: to look for that
    costs nothing. Only one that vanished without a word has to be asked, see :data:`IDLE_S`.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: object, entry: ConnectionPoolEntry) -> None:
        entry.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(
        connection: psycopg.Connection[Any], entry: ConnectionPoolEntry, _pooled: object
    ) -> None:
        used_at = entry.info.get("used_at")
        if used_at is None or (
            time.monotonic() - used_at < IDLE_S and not _has_something_to_say(connection)
        ):
            return
        try:
            engine.dialect.do_ping(connection)  # type: ignore[arg-type]
        except psycopg.Error as error:
            # All others go, too, as they come: what ended this one has ended them.
            raise InvalidatePoolError from error


def _has_something_to_say(connection: psycopg.Connection[Any]) -> bool:
    """Whether a server sent something that nobody asked for."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
