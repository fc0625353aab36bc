"""Dumps of databases by Postgres's own programs, as operators make them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg

from tests.support import programs, servers


def dump(database_url: str, to: Path) -> Path:
    """Dump a database, in the state that it has at one moment, while it is in use."""
    _run("pg_dump", "--format=custom", "--no-owner", f"--file={to}", database_url)
    return to


def restore(dumped: Path, *, server_url: str) -> str:
    """Restore a dump into a new database; return its URL."""
    url = servers.new_database(server_url)
    _restore(dumped, url)
    return url


def restore_over(dumped: Path, *, database_url: str) -> None:
    """Empty a database, and restore a dump into it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    _restore(dumped, database_url)


def _restore(dumped: Path, url: str) -> None:
    _run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", str(dumped))


def _run(program: str, *arguments: str) -> None:
    path = programs.postgres_client(program)
    if path is None:
        servers.unavailable(programs.remedy("postgresql-client"))
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if "server version mismatch" in done.stderr:
        servers.unavailable(f"{path} is older than the server: {done.stderr}")
    assert done.returncode == 0, done.stderr
