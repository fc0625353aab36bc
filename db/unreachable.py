"""The error of a database that cannot be reached, as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
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


def first_line(error: object) -> str:
    """Return the first line of an error, without the detail, which may contain data of rows."""
    return str(error).strip().partition("\n")[0]


def _address(url: sqlalchemy.URL) -> str:
    """Return the host and the port of a URL, without the user and the password."""
    named = url.query.get("host", ())
    hosts = [url.host] if url.host else [named] if isinstance(named, str) else named
    return f"{', '.join(hosts) or 'the local socket'}, port {url.port or 5432}"
