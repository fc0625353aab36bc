"""Statements of hot paths, compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
import sqlalchemy
from psycopg.rows import namedtuple_row
from sqlalchemy import Executable
from sqlalchemy.orm import Session
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

#: The SQL dialect of the driver.
DIALECT = sqlalchemy.make_url("postgresql+psycopg://").get_dialect()()

#: The result of a compiled statement: rows are named tuples of the driver's values.
Ran: TypeAlias = psycopg.Cursor[Any]
#: Under this key a session has the statements that it sends together and that must change a row.
_MUST_CHANGE = "statements_that_must_change_a_row"


class NothingChanged(Exception):
    """Of statements that were sent together, one that must change a row has changed none."""


class CompiledStatement:
    """A statement that a worker runs for every recording, compiled once.

    :meth:`run` passes it to the driver, in the transaction of a session. This takes a fifth of the
    time of :meth:`sqlalchemy.orm.Session.execute`, which compares the statement with those that it
    has compiled, and adapts its result. The values in the rows of the result are the driver's.

    ``columns`` are those that an INSERT without values sets.
    """

    def __init__(self, statement: Executable, *, columns: Sequence[str] | None = None) -> None:
        assert isinstance(statement, ClauseElement)
        compiled = statement.compile(dialect=DIALECT, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)
        self._sql = str(compiled)
        binds = compiled.binds
        processors = {
            name: bind.type.dialect_impl(DIALECT).bind_processor(DIALECT)
            for name, bind in binds.items()
        }
        #: Converts the values of some parameters, as the types of their columns do.
        self._processors = {name: process for name, process in processors.items() if process}
        self._literals = self._processed(
            {name: bind.value for name, bind in binds.items() if not bind.required}
        )

    def run(self, tx: Session, /, **values: object) -> Ran:
        """Run the statement with the values of its parameters."""
        with _cursor(tx) as cursor:
            cursor.execute(self._sql, self._bound(values))
        return cursor

    def run_for_each(self, tx: Session, rows: Sequence[Mapping[str, object]]) -> None:
        """Run the statement for each row of parameters, in one round trip."""
        if rows:
            with _cursor(tx) as cursor:
                cursor.executemany(self._sql, [self._bound(row) for row in rows])

    def _bound(self, values: Mapping[str, object]) -> dict[str, Any]:
        return {**self._literals, **self._processed(values)}

    def _processed(self, values: Mapping[str, object]) -> dict[str, Any]:
        processors = self._processors
        return {
            name: processors[name](value) if name in processors else value
            for name, value in values.items()
        }


@contextmanager
def sent_together(tx: Session) -> Iterator[None]:
    """Send the compiled statements of a block without waiting for the result of each.

    A round trip to the server takes both sides longer than most of these statements. Within the
    block results are unknown, and other statements may not be run.

    Raises
    ------
    NothingChanged
        At the end of the block, if :func:`changed_one` was called for a statement that has not
        changed exactly one row. The transaction must not be committed then.
    """
    connection = tx.connection()
    must_change: list[Ran] = []
    tx.info[_MUST_CHANGE] = must_change
    try:
        with _driver(connection).pipeline():
            yield
    except psycopg.Error as error:
        _raise(connection, error)
    finally:
        del tx.info[_MUST_CHANGE]
    if any(each.rowcount != 1 for each in must_change):
        raise NothingChanged


def changed_one(tx: Session, ran: Ran) -> bool:
    """Whether a statement changed exactly one row.

    True for one that is :func:`sent_together` with others, whose block raises if it did not.
    """
    must_change: list[Ran] | None = tx.info.get(_MUST_CHANGE)
    if must_change is None:
        return ran.rowcount == 1
    must_change.append(ran)
    return True


@contextmanager
def _cursor(tx: Session) -> Iterator[Ran]:
    """Yield a cursor of the driver. Errors are those of SQLAlchemy."""
    connection = tx.connection()
    try:
        yield _driver(connection).cursor(row_factory=namedtuple_row)
    except psycopg.Error as error:
        _raise(connection, error)


def _driver(connection: sqlalchemy.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _raise(connection: sqlalchemy.Connection, error: psycopg.Error) -> None:
    # As SQLAlchemy does for its statements: a lost connection, and its pool, are invalidated.
    connection._handle_dbapi_exception(error, None, None, None, None)
