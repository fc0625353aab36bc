"""Compare the schema of a database with the tables of the code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, text

import db.tables  # noqa: F401  (registers every table)
from db.tables.base import Base

#: The triggers and functions that the migrations create.
TRIGGERS = {"tell_webhooks"}
FUNCTIONS = {"tell_webhooks_of_session"}

CHECKS = text(
    "SELECT conname FROM pg_constraint WHERE contype = 'c'"
    " AND connamespace = current_schema()::regnamespace"
)
TRIGGER_NAMES = text(
    "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
    " WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace"
)
FUNCTION_NAMES = text(
    "SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
)
INVALID_INDEXES = text(
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
    " WHERE NOT indisvalid AND relnamespace = current_schema()::regnamespace ORDER BY relname"
)


def differences(connection: Connection) -> list[str]:
    """Return what differs in a database from the tables of the code, a readable line for each."""
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    checks = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    return [
        *(repr(difference) for difference in compare_metadata(context, Base.metadata)),
        *_names("check", checks, connection.scalars(CHECKS)),
        *_names("trigger", TRIGGERS, connection.scalars(TRIGGER_NAMES)),
        *_names("function", FUNCTIONS, connection.scalars(FUNCTION_NAMES)),
        *(f"index {name} is invalid" for name in connection.scalars(INVALID_INDEXES)),
    ]


def _names(kind: str, wanted: set[str], found: Iterable[str]) -> Iterator[str]:
    there = set(found)
    yield from (f"{kind} {name} is missing" for name in sorted(wanted - there))
    yield from (f"{kind} {name} is not in the models" for name in sorted(there - wanted))
