"""The steps of which revisions consist: each is safe beside traffic, and can be run again.

A step is *brief* or *long*. A brief step takes a lock that blocks others, for an instant: it waits
for the lock for at most about a second, since queries queue behind it meanwhile, then lets them
pass and tries again. A long step reads or writes a table while others use it: it has no timeout and
waits for older transactions, such as a dump.

Each step is committed by itself. A revision that is interrupted is run again from its start, and
its steps find what is there already::

    def upgrade() -> None:
        steps.add_column("audio_sessions", "site_id uuid")
        steps.add_foreign_key("fk_audio_sessions_site_id", "audio_sessions", "site_id", "sites")
        steps.create_index("ix_audio_sessions_site_id", "audio_sessions", "site_id")

A revision without steps, of ``op.create_table`` and the like alone, runs in one transaction. Where
a revision has both, ``op`` comes after the steps.

Tables, columns and conditions are SQL. In a downgrade the same steps are used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from alembic import op

from db.migration.definitions import Existing
from db.migration.errors import MigrationError
from db.migration.execution import Execution, Running


def brief(what: str, *statements: str) -> None:
    """Run statements that take only an instant, in one transaction.

    Write them so that they can be run again: ``IF EXISTS``, ``IF NOT EXISTS``, ``OR REPLACE``.

    Parameters
    ----------
    what
        A few words for the operator, such as ``trigger of webhooks``.
    """
    with _execution() as execution:
        execution.brief(what, *statements)


def add_column(table: str, column: str) -> None:
    """Add a column, such as ``"hold boolean NOT NULL DEFAULT false"``.

    Its default must be a constant: PostgreSQL would write every row again for another one.
    """
    with _execution() as execution:
        execution.brief(
            f"column {table}.{column.split()[0]}",
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column}",
        )


def drop_column(table: str, column: str) -> None:
    """Drop a column with its constraints and indexes."""
    with _execution() as execution:
        execution.brief(
            f"column {table}.{column}", f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}"
        )


def add_check(name: str, table: str, condition: str) -> None:
    """Add a check, or replace the one of this name: new rows first, then the existing ones."""
    with _execution() as execution:
        _add_constraint(execution, name, table, f"CHECK ({condition})", is_text=False)


def add_foreign_key(
    name: str,
    table: str,
    columns: str,
    referred_table: str,
    referred_columns: str = "id",
    *,
    on_delete: str = "",
) -> None:
    """Add a foreign key: new rows first, then the existing ones.

    Parameters
    ----------
    columns, referred_columns
        Names, separated by a comma and a blank.
    on_delete
        Such as ``CASCADE`` or ``SET NULL``.
    """
    wanted = f"FOREIGN KEY ({columns}) REFERENCES {referred_table}({referred_columns})"
    if on_delete:
        wanted += f" ON DELETE {on_delete.upper()}"
    with _execution() as execution:
        _add_constraint(execution, name, table, wanted, is_text=True)


def drop_constraint(name: str, table: str) -> None:
    """Drop a check or a foreign key."""
    with _execution() as execution:
        execution.brief(
            f"constraint {name}", f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"
        )
        execution.definitions.planned(f"{table}.{name}", None)


def set_not_null(table: str, column: str) -> None:
    """Refuse nulls in a column that has none, or whose rows a backfill has filled.

    The table is read by the validation of a check, which blocks no one. With a valid check the
    server does not read the table under the lock of ``SET NOT NULL``.
    """
    check = f"ck_{table}_{column}_not_null"
    with _execution() as execution:
        if execution.definitions.is_not_null(table, column):
            execution.note(f"column {table}.{column}: not null already")
            return
        _add_constraint(execution, check, table, f"CHECK ({column} IS NOT NULL)", is_text=False)
        execution.brief(
            f"column {table}.{column}",
            f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL",
            # It has served its purpose, so the lint of migrations accepts its end.
            f"-- squawk-ignore ban-drop-constraint\nALTER TABLE {table} DROP CONSTRAINT {check}",
        )
        execution.definitions.planned(f"{table}.{check}", None)


def create_index(
    name: str,
    table: str,
    columns: str,
    *,
    unique: bool = False,
    using: str = "btree",
    where: str | None = None,
) -> None:
    """Create an index while the table is used.

    A valid index of this name and definition is kept. An invalid one, which an interrupted build
    leaves behind, or one with another definition is dropped first.

    Postgres builds none concurrently on a partitioned table. Build it on each partition by this
    step, and then on the table by :func:`brief`, which takes those of the partitions over.

    Parameters
    ----------
    columns
        What stands between the parentheses, such as ``"user_id, created_at DESC"``.
    where
        The condition of the rows in the index.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    # Braces in the SQL are not fields.
    after = f"USING {using} ({columns})" + (f" WHERE {where}" if where else "")
    after = after.replace("{", "{{").replace("}", "}}")
    concurrently = f"CREATE {kind} CONCURRENTLY {{name}} ON {{table}} {after}"
    wanted = f"CREATE {kind} {{name}} ON {{table}} {after}"
    with _execution() as execution:
        found = execution.definitions.index(name, table, wanted)
        if found is Existing.SAME:
            execution.note(f"index {name}: there already")
            return
        if found is not Existing.ABSENT:
            fault = "invalid" if found is Existing.UNFINISHED else "of another definition"
            execution.note(f"index {name}: {fault}, so it is dropped and built again")
            _drop_index(execution, name)
        execution.long(f"index {name}", concurrently.format(name=name, table=table))
        execution.definitions.planned(name, wanted)


def drop_index(name: str) -> None:
    """Drop an index while its table is used."""
    with _execution() as execution:
        _drop_index(execution, name)


def backfill(table: str, change: str, where: str, *, key: Sequence[str] = ("id",)) -> None:
    """Change the rows that meet a condition, in batches that are committed one by one.

    It continues where it was interrupted, since the change makes the condition false. New rows must
    not meet the condition: give them the value by a default or a trigger first.

    Parameters
    ----------
    change
        What follows ``SET``, such as ``"priority = 'normal'"``.
    where
        The condition, such as ``"priority IS NULL"``.
    key
        The columns of the primary key. Batches follow its index.
    """
    with _execution() as execution:
        execution.batches(f"rows of {table}", table, change, where, key)


def _add_constraint(
    execution: Execution, name: str, table: str, wanted: str, *, is_text: bool
) -> None:
    what = f"constraint {name}"
    found = execution.definitions.constraint(name, table, wanted, is_text=is_text)
    if found is Existing.SAME:
        execution.note(f"{what}: there already")
        return
    if found is not Existing.UNFINISHED:
        # In one statement, so that new rows are checked at all times.
        drop = f"DROP CONSTRAINT {name}, " if found is Existing.OTHER else ""
        execution.brief(what, f"ALTER TABLE {table} {drop}ADD CONSTRAINT {name} {wanted} NOT VALID")
    execution.long(what, f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
    execution.definitions.planned(f"{table}.{name}", wanted)


def _drop_index(execution: Execution, name: str) -> None:
    execution.long(f"index {name}", f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    execution.definitions.planned(name, None)


@contextmanager
def _execution() -> Iterator[Execution]:
    """Leave the transaction of the revision, which is empty, and yield where the steps go."""
    context = op.get_context()
    attributes = context.config.attributes if context.config is not None else {}
    execution: Execution | None = attributes.get("execution")
    if not context.as_sql:
        assert context.connection is not None
        if execution is None:
            # Alembic's own command, of a developer.
            execution = Running(context.connection, say=lambda line: print(line, file=sys.stderr))
        writes = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
        if context.connection.exec_driver_sql(writes).scalar_one():
            raise MigrationError(
                "a revision changes the schema by op before a step, so that an interruption would"
                " leave it half-done: write op after the steps, or in steps.brief"
            )
    assert execution is not None, "a plan has one"
    with context.autocommit_block():
        yield execution
