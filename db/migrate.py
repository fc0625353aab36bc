"""Run migrations, one process at a time, and detect drift from the models."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy
import structlog
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Connection

from db import catalog
from db.connection_options import ConnectionOptions
from db.engine import make_engine
from db.migration import lock
from db.migration.chain import BASE, SHIPPED, RevisionChain, losses
from db.migration.definitions import Definitions
from db.migration.errors import MigrationError, explained
from db.migration.execution import (
    LOCK_TIMEOUTS_MS,
    PATIENCE_S,
    STATEMENT_TIMEOUT_MS,
    Running,
    Say,
    Writing,
    timeouts,
)
from db.migration.status import Status, invalid_indexes, remedy
from db.migration.status import of as read_status
from db.settings import DATABASE_VARIABLE, MIGRATION_VARIABLE
from db.store import Store
from db.unreachable import first_line, reached

log = structlog.get_logger(__name__)

#: How migrations connect. Each step sets its timeouts.
CONNECTION = ConnectionOptions(application_name="clamor-migrate")
#: The settings of their URL, as an error names them.
URLS = f"{MIGRATION_VARIABLE} or {DATABASE_VARIABLE}"
#: The interval of checks while a process waits for its schema.
READY_POLL_S = 1.0
#: A transaction of a plan without a statement, before and after steps that have their own.
EMPTY_TRANSACTION = re.compile(r"BEGIN;\n\n((?:--[^\n]*\n\n)*)COMMIT;\n\n")
#: The oldest release of Postgres, and the encoding of the database: file names and metadata may be
#: any text.
LEAST_SERVER, ENCODING = 15, "UTF8"
#: Creates partitions and returns their names, and whether a schema has it.
PARTITIONS = "SELECT create_partitions()"
HAS_PARTITIONS = sqlalchemy.text("SELECT to_regproc('create_partitions') IS NOT NULL")
#: Whether a database whose revision is unknown is one of Clamor.
IS_OURS = sqlalchemy.text("SELECT to_regclass('audio_sessions') IS NOT NULL")
#: The revisions before the first release, in place of which there is one.
_UNRELEASED = frozenset({*(f"{number:04}" for number in range(1, 40)), "b001"})


class UnsuitableDatabase(MigrationError):
    """No migration makes this database usable: another one is needed."""


class UnreleasedSchema(UnsuitableDatabase):
    """The database was created before the first release, and no migration leads on from there."""


def upgrade(
    url: str,
    *,
    to: str | None = None,
    chain: RevisionChain = SHIPPED,
    patience_s: float = PATIENCE_S,
    say: Say | None = None,
) -> str:
    """Upgrade a database to a revision (default: the newest), and return the one that it is at.

    That is another one if a later release has migrated it. Then nothing is left to do, so that the
    migration of a release that is rolled back succeeds. Also creates the partitions of the coming
    months.

    Raises
    ------
    MigrationError
        If it cannot be done. Finished revisions and steps persist; another run continues.
    """
    with _running(url, patience_s, say) as execution:
        for script in _after(chain, execution.connection, to):
            execution.say(f"{script.revision}: {script.doc}")
            _run(execution, chain, f"revision {script.revision}", up_to=script.revision)
        _create_partitions(execution)
        for index in invalid_indexes(execution.connection):
            execution.say(remedy(index))
        revision = current(execution.connection)
        assert revision is not None, "an upgrade leaves one"
        if not chain.has(revision):
            execution.say(f"revision {revision} is of a later release, and is kept")
        return revision


def downgrade(
    url: str,
    to: str,
    *,
    chain: RevisionChain = SHIPPED,
    patience_s: float = PATIENCE_S,
    say: Say | None = None,
) -> str:
    """Revert the revisions after one; the caller has read what is lost (:func:`losses_of`)."""
    with _running(url, patience_s, say) as execution:
        for script in chain.back_to(current(execution.connection), to):
            execution.say(f"{script.revision} is reverted: {script.doc}")
            down_to = script.down_revision or BASE
            assert isinstance(down_to, str), "the chain has no branches"
            _run(execution, chain, f"revision {script.revision}", down_to=down_to)
        return to


def losses_of(url: str, to: str, *, chain: RevisionChain = SHIPPED) -> list[str]:
    """Return a line for each revision that a downgrade would revert: what is lost with it."""
    with explained(), connected(url) as connection:
        reverted = chain.back_to(current(connection), to)
        return [f"{script.revision}: {losses(script)}" for script in reverted]


def plan(url: str, *, to: str | None = None, chain: RevisionChain = SHIPPED) -> str:
    """Return the SQL that :func:`upgrade` would run on a database."""
    with explained(), connected(url) as connection:
        pending = _after(chain, connection, to)
        revision = current(connection)
        if pending:
            written = _written(chain, Definitions(connection, is_plan=True), revision, to)
        else:
            written = f"-- nothing is pending: the database is at {revision}\n\n"
        if connection.scalar(HAS_PARTITIONS):
            # The revision that creates the function calls it.
            written += f"-- the partitions of this month and the next three\n\n{PARTITIONS};\n"
        return written


def sql(*, chain: RevisionChain = SHIPPED) -> None:
    """Print the SQL of every migration, for review before a run."""
    print(_written(chain, Definitions(None, is_plan=True), None, None), end="")


def head() -> str:
    """Return the newest revision in the code."""
    return SHIPPED.head


def current(connection: Connection) -> str | None:
    """Return the revision of a database; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def is_older(connection: Connection) -> bool:
    """Whether a database's schema is older than this code needs.

    An unknown revision is a newer one: the schema of a release works for the release before it. An
    empty database is older than any revision.
    """
    revision = current(connection)
    if revision is None:
        return True
    return SHIPPED.has(revision) and revision != head()


def refuse_unsuitable(connection: Connection) -> None:
    """Raise :class:`UnsuitableDatabase` if no migration makes this database usable.

    Its server is too old, it cannot store every text, or it was created before the first release.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    if driver.info.server_version < LEAST_SERVER * 10_000:
        raise UnsuitableDatabase(
            f"the server is Postgres {driver.info.server_version // 10_000}: set DATABASE_URL to a"
            f" database of Postgres {LEAST_SERVER} or newer"
        )
    if (encoding := driver.info.parameter_status("server_encoding")) != ENCODING:
        raise UnsuitableDatabase(
            f"the encoding of the database is {encoding}: set DATABASE_URL to a database made by"
            f" CREATE DATABASE ... ENCODING '{ENCODING}' TEMPLATE template0"
        )
    revision = current(connection)
    if revision in _UNRELEASED:
        raise UnreleasedSchema(
            f"the database is at revision {revision}, from before the first release, and cannot be"
            " migrated: save what you need with clamor export of the version that created it, then"
            " set DATABASE_URL to a new, empty database"
        )


def require(connection: Connection) -> None:
    """Raise :class:`MigrationError` if the schema is older than this code needs."""
    refuse_unsuitable(connection)
    if is_older(connection):
        raise MigrationError(
            f"the schema is at {current(connection) or 'no revision'} and this release needs"
            f" {head()}: run clamor migrate"
        )


def check(store: Store) -> None:
    """Raise :class:`MigrationError` if a store's schema is older than this code needs."""
    with store.engine.connect() as connection:
        require(connection)


def wait_until_migrated(url: str, options: ConnectionOptions | None = None) -> None:
    """Wait until the schema is not older than this code needs.

    Also waits for an unavailable database. Logs one line at the start of the wait and one at its
    end.

    Raises
    ------
    UnsuitableDatabase
        If waiting is of no use, since no migration makes this database usable.
    """
    engine = make_engine(url, options)
    try:
        began_at = time.monotonic()
        reason = _unready(engine)
        if reason is None:
            return
        log.warning("schema_awaited", reason=reason, needed=head())
        while _unready(engine) is not None:
            time.sleep(READY_POLL_S)
        log.info("schema_ready", waited_s=round(time.monotonic() - began_at, 1))
    finally:
        engine.dispose()


def _unready(engine: sqlalchemy.Engine) -> str | None:
    """Return why the schema cannot be used yet; None if it can."""
    try:
        with engine.connect() as connection:
            require(connection)
    except UnsuitableDatabase:
        raise
    except MigrationError as error:
        return str(error)
    except sqlalchemy.exc.OperationalError as error:
        return first_line(error.orig)
    return None


def status(url: str, *, chain: RevisionChain = SHIPPED) -> Status:
    """Return the revision of a database, what is pending, and what differs from the models."""
    with explained(), connected(url, is_autocommit=False) as connection:
        refuse_unsuitable(connection)
        return read_status(connection, current(connection), chain)


def drift(url: str) -> list[str]:
    """Return the differences between a database and the models."""
    with connected(url, is_autocommit=False) as connection:
        return catalog.differences(connection)


def config(connection: Connection | None) -> Config:
    """Return Alembic's configuration, for an open connection."""
    return SHIPPED.config(connection=connection)


def connect(engine: sqlalchemy.Engine) -> Connection:
    """Connect; raise :class:`db.unreachable.DatabaseUnreachable` if that fails."""
    with reached(engine, variable=URLS):
        return engine.connect()


@contextmanager
def connected(url: str, *, is_autocommit: bool = True) -> Iterator[Connection]:
    """Yield a connection for reading the catalog; whatever it changes is rolled back."""
    engine = make_engine(url, CONNECTION)
    level = {"isolation_level": "AUTOCOMMIT"} if is_autocommit else {}
    try:
        with connect(engine).execution_options(**level) as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _running(url: str, patience_s: float, say: Say | None) -> Iterator[Running]:
    """Hold the migration lock, and yield what runs the steps."""
    engine = None
    try:
        with explained():
            engine = make_engine(url, CONNECTION)
            with connect(engine) as connection:
                execution = Running(connection, patience_s=patience_s, say=say)
                lock.take(connection, execution.say)
                yield execution
    finally:
        # Closing the connection releases the lock.
        if engine is not None:
            engine.dispose()


def _after(chain: RevisionChain, connection: Connection, to: str | None) -> list[Script]:
    """Return the revisions that a database lacks: none if a later release has migrated it."""
    refuse_unsuitable(connection)
    revision = current(connection)
    if revision is None or chain.has(revision):
        return chain.after(revision, to)
    if to is None and connection.scalar(IS_OURS):
        return []
    raise MigrationError(
        f"the database is at revision {revision}, which this release does not have: use the release"
        " that has it, or set DATABASE_URL to a database of Clamor"
    )


def _run(execution: Running, chain: RevisionChain, what: str, **target: str) -> None:
    """Run one revision; try again while a lock is not free.

    Without steps it is one transaction, with its row in ``alembic_version``.
    """

    def run() -> None:
        config = chain.config(connection=execution.connection, execution=execution)
        # Alembic commits only a transaction that it has begun.
        execution.connection.rollback()
        try:
            chain.run(config, **target)
            execution.connection.commit()
        except BaseException:
            if not execution.connection.invalidated:
                execution.connection.rollback()
            raise

    execution.patiently(what, run)


def _create_partitions(execution: Running) -> None:
    """Create the partitions of the coming months, which an unused installation may lack."""
    connection = execution.connection
    exists = connection.scalar(HAS_PARTITIONS)
    connection.rollback()
    if not exists:
        return

    def run() -> None:
        with connection.begin():
            for name in connection.scalars(sqlalchemy.text(PARTITIONS)):
                execution.say(f"partition {name} is created")

    execution.patiently("partitions of the coming months", run)


def _written(
    chain: RevisionChain, definitions: Definitions, revision: str | None, to: str | None
) -> str:
    buffer = io.StringIO()

    def write(line: str) -> None:
        buffer.write(f"{line}\n\n")

    up_to = to or chain.head
    tries = ", ".join(str(each) for each in LOCK_TIMEOUTS_MS)
    write(
        f"-- From {revision or 'an empty database'} to {up_to}. While a lock is not free,"
        f" transactions are tried again\n-- with a lock timeout of {tries} ms, with pauses, for as"
        " long as --patience says."
    )
    for statement in timeouts(LOCK_TIMEOUTS_MS[0], STATEMENT_TIMEOUT_MS):
        write(f"{statement};")
    config = chain.config(buffer, execution=Writing(write, definitions))
    chain.run(config, up_to=up_to, as_sql=True, starting_rev=revision)
    return EMPTY_TRANSACTION.sub(r"\1", buffer.getvalue())
