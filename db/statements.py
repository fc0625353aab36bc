"""Statements of hot paths, compiled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import CursorResult, Executable
from sqlalchemy.orm import Session
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

#: The SQL dialect of the driver.
DIALECT = sqlalchemy.make_url("postgresql+psycopg://").get_dialect()()


class CompiledStatement:
    """A statement that a worker runs for every recording, compiled once.

    :meth:`run` passes it to the driver, in the transaction of a session. This takes a third of the
    time of :meth:`sqlalchemy.orm.Session.execute`, which compares the statement with those that it
    has compiled. The values in the rows of the result are the driver's.

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

    def run(self, tx: Session, /, **values: object) -> CursorResult[Any]:
        """Run the statement with the values of its parameters."""
        return tx.connection().exec_driver_sql(self._sql, self._bound(values))

    def run_for_each(self, tx: Session, rows: Sequence[Mapping[str, object]]) -> None:
        """Run the statement for each row of parameters, in one round trip."""
        if rows:
            tx.connection().exec_driver_sql(self._sql, [self._bound(row) for row in rows])

    def _bound(self, values: Mapping[str, object]) -> dict[str, Any]:
        return {**self._literals, **self._processed(values)}

    def _processed(self, values: Mapping[str, object]) -> dict[str, Any]:
        processors = self._processors
        return {
            name: processors[name](value) if name in processors else value
            for name, value in values.items()
        }
