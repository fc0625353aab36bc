"""Run migrations, one process at a time, and detect drift from the models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import sqlalchemy
import structlog
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from db.connection_options import ConnectionOptions
from db.engine import make_engine
from db.tables.base import Base

log = structlog.get_logger(__name__)

#: The name of migrations in ``pg_stat_activity``.
APPLICATION_NAME = "clamor-migrate"
#: The advisory lock of migrations.
MIGRATION_LOCK = 0x6D696772617465
#: How long a process waits for another one that is migrating.
LOCK_WAIT_S = 900.0
LOCK_POLL_S = 0.5
#: The interval of checks while a process waits for its schema.
READY_POLL_S = 1.0
#: A migration that cannot get its lock gives way to the traffic, to be run again later. Once it has
#: the lock it may take long.
LOCK_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 900.0


class MigrationError(Exception):
    """The migrations could not be run, or the schema is not what the code expects."""


def upgrade(url: str) -> str:
    """Upgrade a database to the newest revision, and return that revision."""
    engine = make_patient_engine(url)
    try:
        with engine.connect() as connection, _alone(engine):
            command.upgrade(config(connection), "head")
            connection.commit()
            return head()
    finally:
        engine.dispose()


def make_patient_engine(url: str) -> sqlalchemy.Engine:
    """Create an engine for migrations.

    Its timeouts are set on the connection: those of a transaction would end with the first
    migration.
    """
    return make_engine(
        url,
        ConnectionOptions(
            application_name=APPLICATION_NAME,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
            lock_timeout_s=LOCK_TIMEOUT_S,
        ),
    )


def sql() -> None:
    """Print the SQL of every migration, for review before a run."""
    command.upgrade(config(None), "head", sql=True)


def head() -> str:
    """Return the newest revision in the code.

    Raises
    ------
    MigrationError
        If there is not exactly one: two branches were merged without a merge revision.
    """
    heads = ScriptDirectory.from_config(config(None)).get_heads()
    if len(heads) != 1:
        raise MigrationError(f"expected one migration head, found {len(heads)}: {heads}")
    return heads[0]


@cache
def _known() -> frozenset[str]:
    """Return every revision in the code."""
    scripts = ScriptDirectory.from_config(config(None))
    return frozenset(script.revision for script in scripts.walk_revisions())


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
    return revision in _known() and revision != head()


def require(connection: Connection) -> None:
    """Raise :class:`MigrationError` if the schema is older than this code needs."""
    if is_older(connection):
        raise MigrationError(
            f"the schema is at {current(connection) or 'no revision'} and this release needs"
            f" {head()}: run clamor migrate"
        )


def wait_until_migrated(url: str, options: ConnectionOptions | None = None) -> None:
    """Wait until the schema is not older than this code needs.

    Also waits for an unavailable database. Logs one line at the start of the wait and one at its
    end.
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
    except MigrationError as error:
        return str(error)
    except sqlalchemy.exc.OperationalError as error:
        return str(error.orig).strip().partition("\n")[0]
    return None


def drift(url: str) -> list[str]:
    """Return the differences between a migrated database and the models."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return [repr(difference) for difference in compare_metadata(context, Base.metadata)]
    finally:
        engine.dispose()


def config(connection: Connection | None) -> Config:
    """Return Alembic's configuration, for an open connection."""
    config = Config()
    config.set_main_option("script_location", "db:migrations")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _alone(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Hold the migration lock.

    It is polled: a session that *waits* for an advisory lock holds a snapshot, and a ``CREATE INDEX
    CONCURRENTLY`` in the running migration would wait for that.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + LOCK_WAIT_S
        while not connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}
        ).scalar_one():
            if time.monotonic() > deadline:
                raise MigrationError("another process has been migrating for too long")
            time.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
