"""The roles of a test: the owner, the application and the reader, with LOGIN."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from db import roles
from db.connection_options import ConnectionOptions
from db.roles import Roles


@dataclass(frozen=True)
class WithRoles:
    """A database with its three roles."""

    #: Of a superuser.
    url: str
    names: Roles

    @property
    def app(self) -> str:
        """The name of the application's role."""
        return self.names.app

    @property
    def owner_url(self) -> str:
        """The URL for the owner."""
        return self._url(self.names.owner)

    @property
    def app_url(self) -> str:
        """The URL for the application."""
        return self._url(self.names.app)

    @property
    def reader_url(self) -> str:
        """The URL for the reader."""
        return self._url(self.names.reader)

    def grant(self) -> None:
        """Run the SQL of ``clamor migrate --grant``."""
        roles.apply(self.url, self.names, ConnectionOptions())

    def set_for_app(self, name: str, value: str) -> None:
        """Set a parameter of the application's role."""
        self._run("ALTER ROLE {} SET " + f"{name} = '{value}'", self.names.app)

    def reset_for_app(self) -> None:
        """Remove the parameters of the application's role, as if it had been made by hand."""
        self._run("ALTER ROLE {} RESET ALL", self.names.app)

    def _url(self, role: str) -> str:
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()

    def _run(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def with_roles(url: str, *, schema: str = "public") -> Iterator[WithRoles]:
    """Create three roles in a database, named by chance; drop them at the end."""
    suffix = secrets.token_hex(4)
    names = Roles(
        owner=f"clamor_test_owner_{suffix}",
        app=f"clamor_test_app_{suffix}",
        reader=f"clamor_test_read_{suffix}",
        schema=schema,
    )
    made = WithRoles(url, names)
    created = (names.owner, names.app, names.reader)
    made.grant()
    try:
        for role in created:
            made._run("ALTER ROLE {} LOGIN", role)
        yield made
    finally:
        for role in created:
            made._run("DROP OWNED BY {}", role)
            made._run("DROP ROLE {}", role)
