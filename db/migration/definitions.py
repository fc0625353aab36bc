"""Compare the definition that a step wants with the one in the catalog.

The server writes definitions in its own form: it adds casts and parentheses. So a wanted definition
is given to the server, on an empty copy of the table in a transaction that is rolled back, and read
again. That happens only if an object of the same name exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from sqlalchemy import Connection

#: The name of the copy, and of its index or constraint. No other transaction sees them.
COPY = "clamor_wanted_definition"

INDEX = """
SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)
"""
CONSTRAINT = """
SELECT pg_get_constraintdef(oid), convalidated FROM pg_constraint
WHERE conrelid = to_regclass(%s) AND conname = %s
"""
NOT_NULL = """
SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s
"""


class Existing(Enum):
    """An object in the catalog, compared with the one that is wanted."""

    ABSENT = "absent"
    #: An object of this name has another definition.
    OTHER = "other"
    #: An index that is invalid, a constraint that is not validated.
    UNFINISHED = "unfinished"
    SAME = "same"


class Definitions:
    """The catalog of a database; an empty one without a connection.

    A plan also has the objects that its earlier steps will create and drop, see :meth:`planned`.
    """

    def __init__(self, connection: Connection | None, *, is_plan: bool = False) -> None:
        self._connection = connection
        self._is_plan = is_plan
        #: The wanted definition of each object that the plan creates; None if it drops the object.
        self._planned: dict[str, str | None] = {}

    def planned(self, name: str, wanted: str | None) -> None:
        """Note that a step creates an object, or drops it (None)."""
        if self._is_plan:
            self._planned[name] = wanted

    def index(self, name: str, table: str, wanted: str) -> Existing:
        """Compare an index; ``wanted`` is its statement with a field for its name and table."""
        if (found := self._in_plan(name, wanted)) is not None:
            return found
        row = self._row(INDEX, name)
        if row is None:
            return Existing.ABSENT
        definition, is_valid = row
        if not is_valid:
            return Existing.UNFINISHED
        with self._copy(table):
            self._run(wanted.format(name=f"{COPY}_index", table=COPY))
            [again, _] = self._row(INDEX, f"{COPY}_index")
        return Existing.SAME if _of_index(definition) == _of_index(again) else Existing.OTHER

    def constraint(self, name: str, table: str, wanted: str, *, is_text: bool) -> Existing:
        """Compare a constraint. A foreign key is written as the server writes it (``is_text``)."""
        if (found := self._in_plan(f"{table}.{name}", wanted)) is not None:
            return found
        row = self._row(CONSTRAINT, table, name)
        if row is None:
            return Existing.ABSENT
        definition, is_valid = row
        again = wanted
        if not is_text:
            with self._copy(table):
                self._run(f"ALTER TABLE {COPY} ADD CONSTRAINT {COPY}_check {wanted}")
                [again, _] = self._row(CONSTRAINT, COPY, f"{COPY}_check")
        if definition.removesuffix(" NOT VALID") != again:
            return Existing.OTHER
        return Existing.SAME if is_valid else Existing.UNFINISHED

    def is_not_null(self, table: str, column: str) -> bool:
        """Whether a column refuses nulls."""
        row = self._row(NOT_NULL, table, column)
        return row is not None and bool(row[0])

    def _in_plan(self, name: str, wanted: str) -> Existing | None:
        if name not in self._planned:
            return None
        planned = self._planned[name]
        if planned is None:
            return Existing.ABSENT
        return Existing.SAME if planned == wanted else Existing.OTHER

    @contextmanager
    def _copy(self, table: str) -> Iterator[None]:
        self._run("BEGIN")
        try:
            self._run(f"CREATE TABLE {COPY} (LIKE {table})")
            yield
        finally:
            self._run("ROLLBACK")

    def _run(self, statement: str) -> None:
        assert self._connection is not None
        self._connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def _row(self, query: str, *values: str) -> Any:
        if self._connection is None:
            return None
        return self._connection.exec_driver_sql(query, values).one_or_none()


def _of_index(definition: str) -> tuple[bool, str]:
    """Return whether an index is unique, and its definition after the name of the table."""
    return definition.startswith("CREATE UNIQUE"), definition.partition(" USING ")[2]
