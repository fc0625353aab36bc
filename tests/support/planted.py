"""A chain of revisions for the tests of migrations, with every step, and what it leaves behind."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from sqlalchemy import event

from db.migration.chain import RevisionChain

FOLDER = Path(__file__).parents[1] / "integration" / "db" / "revisions"
CHAIN = RevisionChain((FOLDER,))

SNAPSHOT = {
    "columns": """
        SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
        AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "indexes": """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relnamespace = 'public'::regnamespace
    """,
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "revision": "SELECT version_num FROM alembic_version",
}
#: Statements that read.
READS = re.compile(r"SELECT|SHOW", re.IGNORECASE)


def snapshot(url: str) -> dict[str, list[Any]]:
    """Return everything in the schema of a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        return {
            kind: sorted(map(repr, connection.execute(query))) for kind, query in SNAPSHOT.items()
        }


def empty(url: str) -> None:
    """Remove everything from a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def chain_with(folder: Path, body: str) -> RevisionChain:
    """Write a chain whose second revision runs some code, and return it."""
    (folder / "p1_tables.py").write_text((FOLDER / "p1_tables.py").read_text())
    (folder / "p2_other.py").write_text(
        f'"""other"""\nfrom alembic import op\nfrom db.migration import steps\n'
        f'revision, down_revision = "p2", "p1"\n\n\ndef upgrade() -> None:\n    {body}\n'
        "\n\ndef downgrade() -> None:\n    pass\n"
    )
    return RevisionChain((folder,))


def run_and_count(action: Callable[[], object], *, stop: Callable[[int], None]) -> int:
    """Run an action, and call ``stop`` with the number of each statement that it ran.

    A commit counts as a statement, before it is sent.
    """
    n = 0

    def count(*_: object) -> None:
        nonlocal n
        n += 1
        stop(n)

    def after(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if not READS.match(statement.strip()):
            count()

    event.listen(sqlalchemy.Engine, "after_cursor_execute", after)
    event.listen(sqlalchemy.Engine, "commit", count)
    try:
        action()
    finally:
        event.remove(sqlalchemy.Engine, "after_cursor_execute", after)
        event.remove(sqlalchemy.Engine, "commit", count)
    return n


@contextmanager
def sent() -> Iterator[list[str]]:
    """Collect the statements that this process sends to any server, as they are sent.

    They are complete when the block has ended; those that only read are left out.
    """
    statements: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        files: list[Any] = []

        def trace(connection: psycopg.Connection[Any], _entry: object) -> None:
            files.append((Path(folder) / str(len(files))).open("w+"))
            connection.pgconn.trace(files[-1].fileno())
            connection.pgconn.set_trace_flags(psycopg.pq.Trace.SUPPRESS_TIMESTAMPS)

        event.listen(sqlalchemy.Engine, "connect", trace)
        try:
            yield statements
        finally:
            event.remove(sqlalchemy.Engine, "connect", trace)
            for file in files:
                file.close()
                statements += _statements(Path(file.name).read_text())


def _statements(trace: str) -> Iterator[str]:
    # A query is a message from here: its length, its kind and its text between quotes.
    for message in re.split(r"^(?=[FB]\t\d+\t)", trace, flags=re.MULTILINE):
        found = re.match(r'F\t\d+\tQuery\t "(.*)"\s*$', message, re.DOTALL) or re.match(
            r'F\t\d+\tParse\t "[^"]*" "(.*)" \d+', message, re.DOTALL
        )
        if found and not READS.match(found[1].strip()):
            yield found[1].strip()


def fork(action: Callable[[], object]) -> int:
    """Run an action in a copy of this process, and return its process ID."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for the end of a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def plant_invalid_index(url: str, name: str = "ix_planted") -> None:
    """Leave an invalid index on the users, as an interrupted CREATE INDEX CONCURRENTLY does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (id, email, name) VALUES"
            " (gen_random_uuid(), 'a@planted.example', 'planted'),"
            " (gen_random_uuid(), 'b@planted.example', 'planted')"
        )
        try:
            # Two rows have the same name, so the last phase fails.
            connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON users (name)")
        except psycopg.errors.UniqueViolation:
            return
    raise AssertionError("the index is valid")
