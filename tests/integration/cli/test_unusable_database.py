"""Commands of operators on a database without the schema, or as a role that may not use it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from services.cli.main import USAGE_ERROR, main
from tests.support import servers

pytestmark = pytest.mark.integration

READ = ("user list", "key list a@example.org", "health", "restore check", "schedule")
WRITE = (
    "user create a@example.org",
    "user disable a@example.org",
    "key create a@example.org --name n --scope admin",
    "schedule run health_check",
)


def as_user(url: str, name: str) -> str:
    """Return the URL of a database for another user, without a password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl()


def refusals(
    url: str,
    commands: tuple[str, ...],
    *,
    patch: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
    folder: Path,
) -> list[str]:
    """Run commands that must fail; return the line that each prints."""
    environment = {
        "DATABASE_URL": url,
        "AMQP_URL": "memory://",
        "BLOB_URL": (folder / "blobs").as_uri(),
        "CLAMOR_KEY_PEPPER": "a pepper of the tests that opens nothing",
    }
    for variable, value in environment.items():
        patch.setenv(variable, value)
    lines = []
    for command in commands:
        assert main(command.split()) == USAGE_ERROR, command
        [line] = capture.readouterr().err.splitlines()
        lines.append(line)
    return lines


def test_an_empty_database_needs_a_migration(
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with servers.database(postgres_url) as url:
        lines = refusals(url, READ + WRITE, patch=monkeypatch, capture=capsys, folder=tmp_path)
    for line in lines:
        assert line.startswith("clamor: the database cannot be used (relation")
        assert line.endswith("check that DATABASE_URL is right, and run clamor migrate")


def test_a_role_without_privileges_needs_a_grant(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    name = f"clamor_test_{Path(database_url).name}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        try:
            url = as_user(database_url, name)
            lines = refusals(
                url, ("user list", WRITE[0]), patch=monkeypatch, capture=capsys, folder=tmp_path
            )
        finally:
            connection.execute(f"DROP ROLE {name}")
    for line in lines:
        assert line.startswith("clamor: the database cannot be used (permission denied for table")
        assert line.endswith("and run the SQL of clamor migrate --grant")
