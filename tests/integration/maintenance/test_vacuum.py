"""VACUUM over real Postgres servers, as the owner of the tables and as roles that own none."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import structlog.testing
from psycopg import sql
from sqlalchemy import text

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import VacuumDatabase
from db import migrate
from db.queries import retention_queries
from db.settings import Settings
from db.tables.job_runs import JobRun
from tests.support import accounts, servers
from tests.support.clock import ask, findings
from tests.support.pipeline import add

pytestmark = pytest.mark.integration

#: The privileges that a role needs for Clamor's work. GRANT ALL would grant more on Postgres 17 and
#: newer: it includes MAINTAIN, which allows VACUUM.
READ_AND_WRITE = "SELECT, INSERT, UPDATE, DELETE"


@pytest.fixture(scope="module", params=["found", "embedded"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a database on the other tests' server, then one on the embedded server.

    The two servers may be different releases.
    """
    with servers.database_of(request.param) as url:
        migrate.upgrade(url)
        accounts.add_first(url)
        yield url


@pytest.fixture
def memory_settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        amqp_url="memory://",
        blob_url=(tmp_path / "blobs").as_uri(),
        key_pepper=accounts.PEPPER,
    )


def test_dead_rows_are_removed_and_told(runtime: Runtime) -> None:
    for _ in range(20):
        add(runtime, b"x")
    with runtime.store.transaction() as tx:
        tx.execute(text("DELETE FROM audio_sessions"))
        tx.execute(text("SELECT pg_stat_force_next_flush()"))
    run = ask(runtime, VacuumDatabase())
    assert run.state == "completed", run.problem
    told = findings(run)["tables"]
    assert {"audio_sessions", "noise_detections", "job_runs", "api_keys"} <= set(told)
    assert told["audio_sessions"]["before"]["dead_rows"] >= 20
    assert told["audio_sessions"]["after"]["dead_rows"] == 0
    assert told["audio_sessions"]["after"]["size_bytes"] > 0
    with runtime.store.transaction() as tx:
        row = tx.execute(
            text(
                "SELECT last_vacuum, last_analyze FROM pg_stat_user_tables"
                " WHERE relname = 'audio_sessions'"
            )
        ).one()
    assert all(row)


@pytest.fixture
def stranger(database_url: str) -> Iterator[str]:
    """The URL of a role that may read and write every table but owns none."""
    role = f"clamor_test_{secrets.token_hex(4)}"
    name = sql.Identifier(role)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        connection.execute(
            sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA public TO {}").format(
                sql.SQL(READ_AND_WRITE), name
            )
        )
        connection.execute(
            sql.SQL("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {}").format(name)
        )
    parts = urlsplit(database_url)
    yield parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def vacuumed_by(runtime: Runtime, url: str) -> JobRun:
    """Run the job as another role."""
    settings = replace(runtime.settings, database_url=url)
    other = Runtime(settings, broker.setup(settings))
    try:
        return ask(other, VacuumDatabase())
    finally:
        other.close()


def vacuum_count(runtime: Runtime, table: str) -> int:
    with runtime.store.transaction() as tx:
        return retention_queries.vacuum_counts(tx)[table]


def test_a_table_that_is_passed_over_is_an_error(runtime: Runtime, stranger: str) -> None:
    """Postgres itself reports success, with only a warning."""
    run = vacuumed_by(runtime, stranger)
    assert run.state == "failed"
    assert run.problem is not None
    assert run.problem["code"] == "vacuum-skipped"
    assert "audio_sessions" in run.problem["detail"]
    assert accounts.KEY not in str(run.problem)


def test_one_table_that_is_passed_over_keeps_no_other_from_being_vacuumed(
    runtime: Runtime, stranger: str
) -> None:
    role = sql.Identifier(str(urlsplit(stranger).username))
    with psycopg.connect(runtime.settings.database_url, autocommit=True) as connection:
        [(owner, tables)] = connection.execute(
            "SELECT current_user, array_agg(relname) FROM pg_stat_user_tables"
        ).fetchall()
        for table in set(tables) - {"webhooks"}:
            connection.execute(
                sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), role)
            )
        before = vacuum_count(runtime, "audio_sessions")
        try:
            run = vacuumed_by(runtime, stranger)
        finally:
            connection.execute(
                sql.SQL("REASSIGN OWNED BY {} TO {}").format(role, sql.Identifier(owner))
            )
    assert run.problem is not None
    assert "webhooks" in run.problem["detail"]
    assert vacuum_count(runtime, "audio_sessions") == before + 1


def test_a_locked_table_keeps_no_other_from_being_vacuumed(runtime: Runtime) -> None:
    before = vacuum_count(runtime, "webhooks"), vacuum_count(runtime, "webhook_deliveries")
    settings = replace(runtime.settings, lock_timeout_s=0.1)
    other = Runtime(settings, broker.setup(settings))
    with psycopg.connect(runtime.settings.database_url) as holder:
        holder.execute("LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE")
        with structlog.testing.capture_logs() as logs:
            run = ask(other, VacuumDatabase())
    other.close()
    assert run.problem is not None
    assert "not vacuumed: users. " in run.problem["detail"]
    refused = [entry for entry in logs if entry["event"] == "vacuum_refused"]
    assert [(entry["table"], entry["error"]) for entry in refused] == [
        ("users", "LockNotAvailable")
    ]
    after = vacuum_count(runtime, "webhooks"), vacuum_count(runtime, "webhook_deliveries")
    assert after == (before[0] + 1, before[1] + 1)


def test_a_warning_about_a_table_that_was_vacuumed_is_no_error(runtime: Runtime) -> None:
    """An example is the warning about an open transaction that holds back freezing."""
    with psycopg.connect(runtime.settings.database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION warn(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS"
            " $$ BEGIN RAISE WARNING 'a warning'; RETURN $1; END $$"
        )
        # ANALYZE calls an index's function on every row.
        connection.execute("CREATE TABLE warned (i integer)")
        connection.execute("INSERT INTO warned VALUES (1)")
        connection.execute("CREATE INDEX ON warned (warn(i))")
        try:
            with structlog.testing.capture_logs() as logs:
                run = ask(runtime, VacuumDatabase())
        finally:
            connection.execute("DROP TABLE warned")
            connection.execute("DROP FUNCTION warn")
    assert run.state == "completed", run.problem
    [warning, *_] = [entry for entry in logs if entry["event"] == "vacuum_warning"]
    assert (warning["table"], warning["message"]) == ("warned", "a warning")
