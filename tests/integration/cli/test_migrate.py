"""``clamor migrate``: what it needs, prints and refuses; the sentences are in a golden file."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from db import migrate
from db.migration.chain import SHIPPED, losses
from services.cli.main import main
from tests.support import golden, servers

pytestmark = pytest.mark.integration

SENTENCES = golden.read(Path(__file__).parent / "golden" / "migrate.txt")
#: Nothing listens there.
NOWHERE = "postgresql://postgres@127.0.0.1:9/none"


class Migrate:
    """Runs the command with a database in its environment."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture
        for variable in ("DATABASE_URL", "CLAMOR_MIGRATION_URL", "AMQP_URL", "BLOB_URL"):
            patch.delenv(variable, raising=False)

    def __call__(self, url: str, *arguments: str, code: int = 0) -> str:
        """Return what it prints; on an error, what it prints to the error output."""
        if url:
            self._patch.setenv("DATABASE_URL", url)
        assert main(["migrate", *arguments]) == code
        printed = self._capture.readouterr()
        return printed.err if code else printed.out


@pytest.fixture
def clamor_migrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Migrate:
    return Migrate(monkeypatch, capsys)


@pytest.fixture(scope="module")
def shipped(postgres_url: str) -> Iterator[str]:
    """A database that tests do not change."""
    with servers.database(postgres_url) as url:
        migrate.upgrade(url)
        yield url


def test_a_rollout_waits_for_the_migration(postgres_url: str, tmp_path: Path) -> None:
    with servers.database(postgres_url) as url:
        env = {
            **os.environ,
            "DATABASE_URL": url,
            "AMQP_URL": "amqp://127.0.0.1:9/",
            "BLOB_URL": (tmp_path / "blobs").as_uri(),
        }
        command = [sys.executable, "-m", "services.cli", "migrate", "--wait"]
        with subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as waiting:
            assert waiting.stderr is not None
            assert "schema_awaited" in waiting.stderr.readline()
            assert waiting.poll() is None
            migrate.upgrade(url)
            printed, _ = waiting.communicate(timeout=60)
        assert (waiting.returncode, printed) == (0, "the database has the schema of this release\n")


@pytest.fixture
def role_url(shipped: str) -> Iterator[str]:
    """The database, as a role that may only read it."""
    name = f"clamor_test_{secrets.token_hex(4)}"
    with psycopg.connect(shipped, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
        parts = urlsplit(shipped)
        host = parts.netloc.rpartition("@")[2]
        yield parts._replace(netloc=f"{name}@{host}").geturl()
        connection.execute(f"DROP OWNED BY {name}")
        connection.execute(f"DROP ROLE {name}")


def sentence(name: str, **values: str) -> str:
    return f"clamor: {SENTENCES[name].format(**values)}\n"


def test_it_needs_a_database_alone(clamor_migrate: Migrate, shipped: str) -> None:
    assert clamor_migrate("", code=2) == sentence("no database")
    assert clamor_migrate(shipped) == f"at revision {migrate.head()}\n"


def test_the_url_of_migrations_comes_first(
    clamor_migrate: Migrate, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAMOR_MIGRATION_URL", shipped)
    assert clamor_migrate(NOWHERE) == f"at revision {migrate.head()}\n"


def test_errors_name_the_remedy(clamor_migrate: Migrate, shipped: str, role_url: str) -> None:
    assert clamor_migrate(NOWHERE, code=2) == sentence("no server")
    assert clamor_migrate("topsecret", code=2) == sentence("no URL")
    last = ", ".join(script.revision for script in SHIPPED.revisions[-3:])
    assert clamor_migrate(shipped, "--to", "x", code=1) == sentence("no revision", last=last)
    down = clamor_migrate(role_url, "--down", "base", "--lose-data", code=1)
    line = down.splitlines()[-1]
    reason = line.removeprefix("clamor: ").partition(": ")[0]
    assert line == sentence("not the owner", reason=reason).strip()
    assert "owner" in reason
    assert clamor_migrate(shipped, "--json", code=1) == sentence("an option without another")
    ignored = clamor_migrate(shipped, "--check", "--to", migrate.head(), code=1)
    assert ignored == sentence("a revision without an upgrade")


def test_a_schema_that_does_not_exist_is_named(clamor_migrate: Migrate, shipped: str) -> None:
    url = f"{shipped}?options=-csearch_path%3Dnowhere"
    assert clamor_migrate(url, code=1).splitlines()[-1] == sentence("no schema").strip()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_store_every_text_is_refused(
    clamor_migrate: Migrate, postgres_url: str, encoding: str
) -> None:
    name = f"clamor_test_{secrets.token_hex(4)}"
    url = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        made = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        connection.execute(f"CREATE DATABASE {name} {made}")
        try:
            refused = sentence("another encoding", encoding=encoding)
            for arguments in ((), ("--check",), ("--status",), ("--plan",)):
                assert clamor_migrate(url, *arguments, code=1) == refused
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_an_old_server_is_refused(
    clamor_migrate: Migrate, shipped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(shipped) as connection:
        version = connection.info.server_version // 10_000
    monkeypatch.setattr(migrate, "LEAST_SERVER", version + 1)
    refused = sentence("an old server", version=str(version), least=str(version + 1))
    assert clamor_migrate(shipped, code=1) == refused


@pytest.mark.parametrize("option", ["to", "down"])
def test_a_revision_of_an_unset_variable_is_refused(
    clamor_migrate: Migrate, shipped: str, option: str
) -> None:
    refused = clamor_migrate(shipped, f"--{option}", "", code=1)
    assert refused == sentence("an empty revision", option=option)


def test_status(clamor_migrate: Migrate, database_url: str) -> None:
    newest = {
        "revision": migrate.head(),
        "head": migrate.head(),
        "is_known": True,
        "pending": [],
        "invalid_indexes": [],
        "differences": [],
    }
    assert json.loads(clamor_migrate(database_url, "--status", "--json")) == newest
    assert "no differences" in clamor_migrate(database_url, "--status")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        later = json.loads(clamor_migrate(database_url, "--status", "--json"))
        assert later == newest | {"revision": "9999", "is_known": False, "differences": None}
        clamor_migrate(database_url, "--check", code=1)
        connection.execute("DELETE FROM alembic_version")
    status = json.loads(clamor_migrate(database_url, "--status", "--json"))
    first = SHIPPED.revisions[0]
    assert status["revision"] is None
    assert status["pending"][0] == {"revision": first.revision, "summary": first.doc}
    text = clamor_migrate(database_url, "--status")
    assert f"pending: {first.revision}, {first.doc}" in text
    assert "revisions are pending: run clamor migrate" in clamor_migrate(
        database_url, "--check", code=1
    )


def test_a_release_that_is_rolled_back_migrates_nothing(
    clamor_migrate: Migrate, database_url: str
) -> None:
    """Its migration runs before its processes, which start only if it has succeeded."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert clamor_migrate(database_url) == "at revision 9999\n"
        plan = clamor_migrate(database_url, "--plan")
        assert plan.startswith("-- nothing is pending: the database is at 9999")
        to_ours = clamor_migrate(database_url, "--to", migrate.head(), code=1)
        assert to_ours == sentence("a later release")
        # The database of another application that uses Alembic is not taken for one of Clamor.
        connection.execute("ALTER TABLE audio_sessions RENAME TO songs")
        assert clamor_migrate(database_url, code=1) == sentence("a later release")


#: What a check finds: a statement, and words of the line about it.
CHANGES = {
    "ALTER TABLE batches DROP COLUMN state CASCADE": ("state",),
    "CREATE TABLE extra (id int)": ("extra",),
    "DROP INDEX ix_webhooks_user_id": ("ix_webhooks_user_id",),
    "ALTER TABLE webhooks DROP CONSTRAINT ck_webhooks_state": ("ck_webhooks_state", "missing"),
    "DROP TRIGGER {trigger} ON audio_sessions": ("trigger", "missing"),
    "CREATE FUNCTION extra() RETURNS int LANGUAGE sql AS 'SELECT 1'": ("function", "extra"),
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_webhooks_user_id'::regclass": (
        "REINDEX",
        "ix_webhooks_user_id",
    ),
}


def test_check_finds_each_difference(clamor_migrate: Migrate, database_url: str) -> None:
    assert "no problems" in clamor_migrate(database_url, "--check")
    with psycopg.connect(database_url) as connection:
        find = (
            "SELECT tgname FROM pg_trigger WHERE tgrelid = 'audio_sessions'::regclass"
            " AND NOT tgisinternal"
        )
        [(trigger,)] = connection.execute(find).fetchall()
        for change, words in CHANGES.items():
            connection.execute(change.format(trigger=trigger))
            connection.commit()
            found = clamor_migrate(database_url, "--check", code=1).splitlines()
            assert any(all(word in line for word in words) for line in found), (change, found)
            if change.startswith("DROP INDEX"):
                connection.execute("CREATE INDEX ix_webhooks_user_id ON webhooks (user_id)")
                connection.commit()


def test_down_needs_consent(clamor_migrate: Migrate, database_url: str) -> None:
    newest = SHIPPED.revisions[-1]
    to = newest.down_revision or "base"
    assert isinstance(to, str)
    refused = clamor_migrate(database_url, "--down", to, code=1)
    assert refused.splitlines() == [
        f"lost with {newest.revision}: {losses(newest)}",
        sentence("no consent").strip(),
    ]
    assert migrate.status(database_url).revision == newest.revision
    assert clamor_migrate(database_url, "--down", to, "--lose-data") == f"at revision {to}\n"
    assert clamor_migrate(database_url, "--to", migrate.head()) == f"at revision {migrate.head()}\n"


def test_the_plan_of_an_empty_database_is_the_sql(
    clamor_migrate: Migrate, postgres_url: str, shipped: str
) -> None:
    with servers.database(postgres_url) as url:
        assert clamor_migrate(url, "--plan") == clamor_migrate(url, "--sql")
        assert "CREATE TABLE audio_sessions" in clamor_migrate(url, "--plan")
        assert json.loads(clamor_migrate(url, "--status", "--json"))["revision"] is None
    assert "nothing is pending" in clamor_migrate(shipped, "--plan")


def test_no_sentence_is_without_a_case() -> None:
    source = Path(__file__).read_text()
    assert [name for name in SENTENCES if f'sentence("{name}"' not in source] == []
