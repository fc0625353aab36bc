"""Connect Alembic to the database.

The connection comes from ``db.migrate``, or from the URL of a developer who runs Alembic directly:
``alembic -x url=postgresql://...``.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, Table
from sqlalchemy.schema import SchemaItem

from db.engine import make_engine
from db.tables.base import Base


def _is_compared(
    found: SchemaItem, _name: str | None, _kind: str, _is_of_database: bool, _other: object
) -> bool:
    """Whether autogenerate compares an object: not a partition, which the models do not have."""
    return not (isinstance(found, Table) and found.dialect_options["postgresql"]["inherits"])


#: One transaction per migration: finished ones persist if a later one fails.
OPTIONS: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "transaction_per_migration": True,
    "include_object": _is_compared,
}


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection, compare_type=True, compare_server_default=True, **OPTIONS
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    if context.is_offline_mode():
        context.configure(
            dialect_name="postgresql",
            # A percent sign in the SQL stays one.
            dialect_opts={"paramstyle": "named"},
            literal_binds=True,
            **OPTIONS,
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
        return
    engine = make_engine(context.get_x_argument(as_dictionary=True)["url"])
    with engine.connect() as own:
        _migrate(own)
        own.commit()


_run()
