"""Connect Alembic to the database.

The connection comes from ``db.migrate``, or from the URL of a developer who runs Alembic directly:
``alembic -x url=postgresql://...``.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from db import migrate
from db.tables.base import Base


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # One transaction per migration: finished ones persist if a later one fails.
        transaction_per_migration=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _migrate(connection)
    elif context.is_offline_mode():
        context.configure(
            dialect_name="postgresql",
            target_metadata=Base.metadata,
            literal_binds=True,
            transaction_per_migration=True,
        )
        # A run has them on its connection.
        context.execute(f"SET lock_timeout = {migrate.LOCK_TIMEOUT_MS}")
        context.execute(f"SET statement_timeout = {migrate.STATEMENT_TIMEOUT_MS}")
        with context.begin_transaction():
            context.run_migrations()
    else:
        engine = migrate.make_patient_engine(context.get_x_argument(as_dictionary=True)["url"])
        with engine.connect() as own:
            _migrate(own)
            own.commit()


_run()
