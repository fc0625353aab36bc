"""Errors of migrations, each a line that names the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic.util import CommandError
from psycopg import errors
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from db.unreachable import first_line

AGAIN = "then run clamor migrate again; it continues where it stopped"

#: The remedy for each class of the server's errors. A subclass comes before its base.
REMEDIES: tuple[tuple[type[psycopg.Error], str], ...] = (
    (
        errors.InsufficientPrivilege,
        "set CLAMOR_MIGRATION_URL to the URL of the role that owns the tables; if it is, run the"
        " SQL of clamor migrate --grant",
    ),
    (
        errors.InvalidSchemaName,
        "create the schema that search_path names, as by the SQL of clamor migrate --grant, or"
        " correct search_path in the URL",
    ),
    (
        errors.ReadOnlySqlTransaction,
        "set CLAMOR_MIGRATION_URL to the URL of the primary server",
    ),
    (errors.DiskFull, f"free space on the server's disk, {AGAIN}"),
    (
        errors.QueryCanceled,
        f"it was cancelled or took longer than a brief step may; wait until the server is less"
        f" busy, {AGAIN}",
    ),
    (errors.LockNotAvailable, f"end the transactions that hold the lock, {AGAIN}"),
    (errors.DeadlockDetected, "run clamor migrate again; it continues where it stopped"),
    (errors.CheckViolation, f"correct the rows that violate it, {AGAIN}"),
    (errors.NotNullViolation, f"fill the empty rows, {AGAIN}"),
    (errors.ForeignKeyViolation, f"remove or correct the rows that refer to no row, {AGAIN}"),
    (errors.UniqueViolation, f"remove the duplicate rows, {AGAIN}"),
    (errors.DuplicateTable, f"move the table to another schema, {AGAIN}"),
    (errors.AdminShutdown, f"wait until the server accepts connections, {AGAIN}"),
)


class MigrationError(Exception):
    """The migrations could not be run, or the schema is not what the code expects."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of the server and of Alembic into a :class:`MigrationError` of one line."""
    try:
        yield
    except CommandError as error:
        raise MigrationError(f"{first_line(error)}: clamor migrate --status lists them") from error
    except (DBAPIError, PendingRollbackError) as error:
        # Alembic ends its transaction although the connection is lost, or in the middle of a
        # statement; the context has the cause.
        causes = list(_causes(error))
        for cause in causes:
            if not isinstance(cause, Exception):
                raise cause from None
        raise MigrationError(_sentence(causes[-1])) from error
    except psycopg.Error as error:
        raise MigrationError(_sentence(error)) from error


def is_lock(error: BaseException) -> bool:
    """Whether a statement did not get its lock, so that it can be tried again."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(orig, errors.LockNotAvailable | errors.DeadlockDetected)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the driver's errors in the context of an error, and signals; the first comes last."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, psycopg.Error) or not isinstance(each, Exception):
            yield each
        each = each.__context__


def _sentence(error: BaseException) -> str:
    for kind, remedy in REMEDIES:
        if isinstance(error, kind):
            return f"{first_line(error)}: {remedy}"
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return (
            f"{first_line(error)}: check that the server runs and that CLAMOR_MIGRATION_URL or"
            f" DATABASE_URL is right, {AGAIN}"
        )
    return f"{first_line(error)}: correct the cause, {AGAIN}"
