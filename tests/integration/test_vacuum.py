"""VACUUM over a real Postgres, as its owner and as somebody who may not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from actors import broker
from actors.messages import VacuumDatabase
from actors.runtime import Runtime
from tests.support import accounts
from tests.support.clock import ask
from tests.support.pipeline import add

pytestmark = pytest.mark.integration


def test_dead_rows_are_removed_and_told(runtime: Runtime) -> None:
    for _ in range(20):
        add(runtime, b"x")
    with runtime.store.transaction() as db:
        db.execute(text("DELETE FROM audio_sessions"))
        db.execute(text("SELECT pg_stat_force_next_flush()"))
    run = ask(runtime, VacuumDatabase())
    assert run.state == "completed", run.problem
    assert run.result is not None
    told = run.result["tables"]
    assert {"audio_sessions", "noise_detections", "job_runs", "api_keys"} <= set(told)
    assert told["audio_sessions"]["before"]["dead_rows"] >= 20
    assert told["audio_sessions"]["after"]["dead_rows"] == 0
    assert told["audio_sessions"]["after"]["size_bytes"] > 0
    with runtime.store.transaction() as db:
        row = db.execute(
            text(
                "SELECT last_vacuum, last_analyze FROM pg_stat_user_tables"
                " WHERE relname = 'audio_sessions'"
            )
        ).one()
    assert all(row)


@pytest.fixture
def stranger(database_url: str) -> Iterator[str]:
    """A role that may read and write every table, and owns none."""
    role = f"clamor_test_{secrets.token_hex(4)}"
    name = sql.Identifier(role)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        for what in ("TABLES", "SEQUENCES"):
            connection.execute(
                sql.SQL("GRANT ALL ON ALL {} IN SCHEMA public TO {}").format(sql.SQL(what), name)
            )
    parts = urlsplit(database_url)
    yield parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_table_that_is_passed_over_is_an_error(runtime: Runtime, stranger: str) -> None:
    """Postgres itself answers that all is well, and warns."""
    settings = replace(runtime.settings, database_url=stranger)
    other = Runtime(settings, broker.setup(settings))
    run = ask(other, VacuumDatabase())
    other.close()
    assert run.state == "failed"
    assert run.problem is not None
    assert run.problem["code"] == "vacuum-skipped"
    assert "was not vacuumed" in run.problem["detail"]
    assert accounts.KEY not in str(run.problem)
