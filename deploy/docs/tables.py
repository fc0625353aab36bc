"""The tables of the database, as the models declare them, for docs/dba.md."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table

import db.tables  # noqa: F401  (registers every table)
from db.tables.base import Base
from deploy.docs.markdown import header, row

#: What becomes of a row when the row that it refers to is deleted.
_ON_DELETE = {"CASCADE": "deleted with it", "SET NULL": "set to null", None: "refuses the deletion"}


def tables() -> str:
    """Return a table of the tables: what a row is, its key, its relations and its indexes."""
    lines = header("table", "a row is", "primary key", "refers to", "indexes")
    lines += [row(*cells) for cells in sorted(map(_cells, Base.metadata.tables.values()))]
    return "\n".join(lines)


def _cells(table: Table) -> tuple[str, str, str, str, str]:
    key = ", ".join(f"`{column.name}`" for column in table.primary_key)
    relations = "; ".join(_relations(table))
    return f"`{table.name}`", table.comment or "", key, relations, _indexes(table)


def _relations(table: Table) -> Iterator[str]:
    """Yield each foreign key: the column, unless it is named after the table that it refers to."""
    for key in sorted(table.foreign_keys, key=lambda key: key.target_fullname):
        yield f"`{key.parent.name}` to `{key.column.table.name}`, {_ON_DELETE[key.ondelete]}"


def _indexes(table: Table) -> str:
    """Return the number of indexes besides the primary key's, unique constraints included."""
    unique = sum(type(each).__name__ == "UniqueConstraint" for each in table.constraints)
    return str(len(table.indexes) + unique)
