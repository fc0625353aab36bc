"""The errors of a database that cannot be reached, or used, as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from db.temporary_errors import is_of_connection

#: What the driver writes before the reason: the host as it resolved it, and its port.
_PREFIX = re.compile(r"^connection (failed|is bad): (.* failed: )?")


class DatabaseUnreachable(Exception):
    """The database accepts no connection; the message names its host and the remedy."""


@contextmanager
def reached(engine: sqlalchemy.Engine, *, variable: str = "DATABASE_URL") -> Iterator[None]:
    """Raise :class:`DatabaseUnreachable` where the connection to a database fails.

    ``variable`` is the name of the setting with its URL.
    """
    try:
        yield
    except DBAPIError as error:
        if not is_of_connection(error):
            raise
        reason = " ".join(_PREFIX.sub("", first_line(error.orig)).split())
        raise DatabaseUnreachable(
            f"the database at {_address(engine.url)}, cannot be reached ({reason}): check that it"
            f" runs and that {variable} is right"
        ) from error


class DatabaseUnusable(Exception):
    """The database lacks the schema of this release, or the user may not use it."""


#: The remedy for each error of a statement that shows it.
_REMEDIES: tuple[tuple[type[psycopg.Error], str], ...] = (
    (errors.UndefinedTable, "run clamor migrate"),
    (errors.UndefinedColumn, "run clamor migrate"),
    (errors.UndefinedFunction, "run clamor migrate"),
    (errors.InsufficientPrivilege, "run the SQL of clamor migrate --grant"),
    (errors.ReadOnlySqlTransaction, "use the primary server, and the application's role"),
)


@contextmanager
def used() -> Iterator[None]:
    """Raise :class:`DatabaseUnusable` where a statement shows that the database cannot be used."""
    try:
        yield
    except DBAPIError as error:
        for kind, remedy in _REMEDIES:
            if isinstance(error.orig, kind):
                raise DatabaseUnusable(
                    f"the database cannot be used ({first_line(error.orig)}): check that"
                    f" DATABASE_URL is right, and {remedy}"
                ) from error
        raise


def first_line(error: object) -> str:
    """Return the first line of an error, without the detail, which may contain data of rows."""
    return str(error).strip().partition("\n")[0]


def _address(url: sqlalchemy.URL) -> str:
    """Return the host and the port of a URL, without the user and the password."""
    named = url.query.get("host", ())
    hosts = [url.host] if url.host else [named] if isinstance(named, str) else named
    return f"{', '.join(hosts) or 'the local socket'}, port {url.port or 5432}"
