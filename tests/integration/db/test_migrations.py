"""The migrations produce the models' schema, and can be read and reverted."""

from __future__ import annotations

import pytest
import sqlalchemy
from alembic import command
from sqlalchemy import CheckConstraint, text

from db import migrate
from db.store import Store, driver_url
from db.tables.base import Base

pytestmark = pytest.mark.integration

#: The revision before sessions could be without a size.
BEFORE_FETCHING = "0014"


def test_no_drift(database_url: str) -> None:
    assert migrate.drift(database_url) == []


def test_every_check_of_the_models_is_in_the_catalog(store: Store) -> None:
    """Autogenerate does not compare checks, so the test reads them from the catalog."""
    wanted = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    with store.transaction() as tx:
        found = set(
            tx.execute(
                text(
                    "SELECT conname FROM pg_constraint WHERE contype = 'c'"
                    " AND connamespace = 'public'::regnamespace"
                )
            ).scalars()
        )
    assert wanted == found
    assert wanted


def test_up_is_repeatable_and_down_leaves_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        assert migrate.current(connection) == migrate.head()
        command.downgrade(migrate.config(connection), "base")
        connection.commit()
        tables = sqlalchemy.inspect(connection).get_table_names()
    engine.dispose()
    assert tables == ["alembic_version"]
    assert migrate.upgrade(database_url) == migrate.head()


def test_each_migration_takes_rows_of_the_one_before(database_url: str) -> None:
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        command.downgrade(migrate.config(connection), "0001")
        connection.execute(
            text(
                "INSERT INTO audio_sessions (id, file_name, recording_key, size_bytes, state)"
                " VALUES (gen_random_uuid(), 'a', 'b', 1, 'queued')"
            )
        )
        connection.execute(
            text(
                "INSERT INTO noise_detections"
                " (session_id, event_index, start_s, end_s, noise_type, confidence)"
                " SELECT id, 0, 0, 1, 'rain', 0.5 FROM audio_sessions"
            )
        )
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
        [row] = connection.execute(
            text(
                "SELECT calibration_db, calibration_tone_db, bands, totals, levels_answer_key"
                " FROM audio_sessions"
            )
        ).all()
        candidates = connection.execute(text("SELECT candidates FROM noise_detections")).scalars()
        assert list(candidates) == [[]]
    engine.dispose()
    assert set(row) == {None}


def test_what_was_not_fetched_ends_when_the_old_code_comes_back(database_url: str) -> None:
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        connection.execute(
            text(
                "INSERT INTO audio_sessions"
                " (id, file_name, recording_key, source_url, state, finished_at)"
                " VALUES (gen_random_uuid(), 'a', 'b', 'http://x', 'queued', NULL),"
                " (gen_random_uuid(), 'a', 'b', 'http://x', 'cancelled', now())"
            )
        )
        connection.commit()
        command.downgrade(migrate.config(connection), BEFORE_FETCHING)
        connection.commit()
        states = connection.execute(
            text("SELECT state, size_bytes FROM audio_sessions WHERE finished_at <= now()")
        ).all()
        # Indexes are built concurrently, which cannot run inside a transaction.
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
    engine.dispose()
    assert sorted(map(tuple, states)) == [("cancelled", 0), ("failed", 0)]


def test_the_sql_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    migrate.sql()
    assert "CREATE TABLE audio_sessions" in capsys.readouterr().out
