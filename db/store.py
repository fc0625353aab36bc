"""The store: transactions, reads and compiled queries over one process's connections.

Each process creates its own :class:`Store`, after any fork: connections shared by two processes
return wrong rows.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from db.connection_options import ConnectionOptions
from db.engine import FIRST_STATEMENT, make_engine
from db.silent_servers import Breaker
from db.statements import DIALECT

#: A connection that was idle for longer is pinged before use: a round trip to the server, which a
#: busy process avoids.
IDLE_S = 5.0


class ForkedStore(Exception):
    """A store is used by a process other than the one that created it."""


#: The row of a compiled query.
Answer = TypeVar("Answer", bound=NamedTuple)


class CompiledQuery(Generic[Answer]):
    """A statement that returns at most one row and runs with every request.

    It is compiled once. :meth:`Store.ask` passes it directly to the driver, which takes half as
    long as a session; the values in the row are the driver's.
    """

    def __init__(
        self, statement: sqlalchemy.Select[*tuple[Any, ...]], answer: type[Answer]
    ) -> None:
        compiled = statement.compile(dialect=DIALECT)
        if any(value is not None for value in compiled.params.values()):
            raise ValueError("every value in a compiled query must be a parameter or a literal")
        if tuple(statement.selected_columns.keys()) != answer._fields:
            raise ValueError(f"the columns of the query must be the fields of {answer.__name__}")
        self.sql = str(compiled)
        #: Converts a row of the driver.
        self.answer: Callable[[Iterable[Any]], Answer] = answer._make


class Store:
    """One process's access to Postgres.

    A forked process shares the connections of its parent and would read the results of the
    parent's queries; using the store there raises :class:`ForkedStore`.
    """

    def __init__(
        self, url: str, *, pool_size: int = 5, options: ConnectionOptions | None = None
    ) -> None:
        self._made_by = os.getpid()
        options = options or ConnectionOptions()
        breaker = Breaker()
        self._engine = make_engine(
            url,
            options,
            breaker=breaker,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=options.pool_timeout_s,
            # The connection that was used last has the warmest caches and needs no ping.
            pool_use_lifo=True,
        )
        _watch(self._engine, breaker)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    @property
    def engine(self) -> sqlalchemy.Engine:
        """The engine; only in the process that created it."""
        self._check_process()
        return self._engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session that is committed at the end, or rolled back on an exception."""
        self._check_process()
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session for reading, in autocommit mode, which saves two round trips.

        Every statement may be a separate transaction: for queries of one statement.
        """
        self._check_process()
        # The session sees a transaction, but the driver begins none and sends nothing at its end.
        # SQLAlchemy's own switch to autocommit takes as long as a statement.
        with (
            self._engine.connect() as connection,
            _reading(connection.connection),
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def one_statement(self) -> Iterator[Session]:
        """Open a session for one statement that writes, and commits itself.

        In autocommit mode, which saves two round trips, unless a first statement has to set the
        timeouts.
        """
        self._check_process()
        with self._engine.connect() as connection:
            pooled = connection.connection
            session = Session(connection, expire_on_commit=False)
            if pooled.info.get(FIRST_STATEMENT) is not None:
                with session, session.begin():
                    yield session
                return
            with _autocommit(pooled), session:
                yield session

    def ask(self, question: CompiledQuery[Answer], **values: object) -> Answer | None:
        """Run a compiled query; return its row, or None."""
        self._check_process()
        try:
            with self._engine.raw_connection() as pooled, _reading(pooled) as connection:
                # Prepared at once, unless the connection prepares nothing.
                row = connection.execute(question.sql, values, prepare=True).fetchone()
        except psycopg.Error as error:
            raise DBAPIError.instance(
                question.sql, None, error, psycopg.Error, hide_parameters=True
            ) from error
        return None if row is None else question.answer(row)

    def close(self) -> None:
        """Close every connection; none in a forked process, as they belong to the parent."""
        self._engine.dispose(close=os.getpid() == self._made_by)

    def _check_process(self) -> None:
        if os.getpid() != self._made_by:
            raise ForkedStore(
                f"this store was made by process {self._made_by}, before the fork of {os.getpid()}"
            )


@contextmanager
def _reading(pooled: PoolProxiedConnection) -> Iterator[psycopg.Connection[Any]]:
    """Yield the driver's connection for statements that only read.

    In autocommit mode, unless a first statement has to set the timeouts: they last for a
    transaction, which the pool ends when it takes the connection back.
    """
    if (first := pooled.info.get(FIRST_STATEMENT)) is None:
        with _autocommit(pooled) as connection:
            yield connection
        return
    connection = pooled.dbapi_connection  # type: ignore[assignment]
    connection.execute(first)
    yield connection


@contextmanager
def _autocommit(pooled: PoolProxiedConnection) -> Iterator[psycopg.Connection[Any]]:
    """Yield the driver's connection in autocommit mode."""
    connection: psycopg.Connection[Any] = pooled.dbapi_connection  # type: ignore[assignment]
    connection.autocommit = True
    try:
        yield connection
    finally:
        if not connection.closed:
            connection.autocommit = False
        elif pooled.is_valid:
            pooled.invalidate()


def _watch(engine: sqlalchemy.Engine, breaker: Breaker) -> None:
    """Check connections for a closed other end before they are used.

    A server that closes a connection sends a message, and checking for unread data costs nothing.
    Only a server that vanished without one has to be pinged, see :data:`IDLE_S`. Connections from
    before a silence of the server are replaced.
    """

    @event.listens_for(engine, "checkin")
    def note(_connection: object, entry: ConnectionPoolEntry) -> None:
        entry.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def look(
        connection: psycopg.Connection[Any], entry: ConnectionPoolEntry, _pooled: object
    ) -> None:
        used_at = entry.info.get("used_at")
        if used_at is not None and breaker.is_silent_since(used_at):
            raise InvalidatePoolError
        if used_at is None or (
            time.monotonic() - used_at < IDLE_S and not _has_something_to_say(connection)
        ):
            return
        try:
            engine.dialect.do_ping(connection)  # type: ignore[arg-type]
        except psycopg.Error as error:
            # Invalidates the whole pool: whatever ended this connection has ended the others too.
            raise InvalidatePoolError from error


def _has_something_to_say(connection: psycopg.Connection[Any]) -> bool:
    """Whether unread data from the server is waiting, such as the notice of a shutdown."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
