"""Nothing waits for Postgres for ever, on any connection."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg.errors
import pytest
import sqlalchemy.exc
from sqlalchemy import Engine, text

import db as store_package
from db import migrate, session
from db.session import Store

pytestmark = pytest.mark.integration


def timeouts(engine: Engine) -> dict[str, int]:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT name, setting::int FROM pg_settings WHERE name = ANY(:names)"),
            {"names": list(names)},
        )
        return {name: setting for name, setting in rows}  # noqa: C416


def test_a_statement_of_the_store_gives_way(store: Store) -> None:
    assert timeouts(store.engine) == {
        "statement_timeout": session.STATEMENT_TIMEOUT_MS,
        "lock_timeout": session.LOCK_TIMEOUT_MS,
        "idle_in_transaction_session_timeout": 60_000,
    }


def test_a_stuck_statement_is_ended(database_url: str) -> None:
    engine = session.make_engine(database_url, statement_timeout_ms=200)
    with (
        engine.connect() as connection,
        pytest.raises(sqlalchemy.exc.OperationalError) as failure,
    ):
        connection.execute(text("SELECT pg_sleep(60)"))
    engine.dispose()
    assert isinstance(failure.value.orig, psycopg.errors.QueryCanceled)


def test_migrations_are_patient_but_not_for_ever(database_url: str) -> None:
    engine = migrate.make_patient_engine(database_url)
    found = timeouts(engine)
    engine.dispose()
    assert found["statement_timeout"] == migrate.STATEMENT_TIMEOUT_MS
    assert found["lock_timeout"] == migrate.LOCK_TIMEOUT_MS


def test_engines_are_made_in_one_place() -> None:
    root = Path(store_package.__file__).parents[1]
    making = [
        path.relative_to(root).as_posix()
        for package in ("db", "actors", "services")
        for path in (root / package).rglob("*.py")
        if re.search(r"create_engine\(|psycopg\.connect\(", path.read_text())
    ]
    assert making == ["db/session.py"]
