"""The migrations produce the models' schema, and can be read and reverted."""

from __future__ import annotations

import pytest
import sqlalchemy
from alembic import command
from sqlalchemy import CheckConstraint, text

from actors.execution.runtime import Runtime
from actors.science.detection import classifier
from actors.science.errors import ModelError
from db import migrate
from db.blobs.keys import shipped_key
from db.store import Store, driver_url
from db.tables.base import Base

pytestmark = pytest.mark.integration

#: The revision before sessions could be without a size.
BEFORE_FETCHING = "0014"
#: The last revision with models without a file, and with documents without some fields.
BEFORE_FILES = "0032"


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


#: What an interrupted run of the migration leaves behind.
UNVALIDATED = (
    "ALTER TABLE noise_models ADD CONSTRAINT ck_noise_models_blob_key"
    " CHECK (blob_key IS NOT NULL) NOT VALID"
)


def test_models_without_a_file_get_the_key_of_the_shipped_file(database_url: str) -> None:
    """Also after a run that was interrupted, and in use by a session that keeps its model."""
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        command.downgrade(migrate.config(connection), BEFORE_FILES)
        connection.execute(
            text(
                """
                INSERT INTO noise_models (id, name, version, sha256, blob_key, header, card)
                VALUES
                    (gen_random_uuid(), 'm', 'shipped', 'aa', NULL,
                        '{"training": {"accuracy": 0.5, "seed": 1}}', NULL),
                    (gen_random_uuid(), 'm', 'trained', 'bb', 'trainings/b', '{}',
                        '{"n_clips": 4}'),
                    (gen_random_uuid(), 'm', 'new', 'cc', 'trainings/c',
                        '{"training": {"clip_accuracy": 0.9}}', '{"warnings": ["few"]}')
                """
            )
        )
        connection.execute(
            text(
                "INSERT INTO audio_sessions (id, file_name, recording_key, state, model_id)"
                " SELECT gen_random_uuid(), 'a', 'b', 'queued', id FROM noise_models"
                " WHERE blob_key IS NULL"
            )
        )
        connection.execute(text(UNVALIDATED))
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
        rows = connection.execute(
            text("SELECT version, blob_key, is_shipped, header, card FROM noise_models")
        )
        models = {version: tuple(columns) for version, *columns in rows}
        n_kept = connection.execute(
            text("SELECT count(*) FROM audio_sessions JOIN noise_models m ON m.id = model_id")
        ).scalar_one()
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            connection.execute(text("UPDATE noise_models SET blob_key = NULL"))
    engine.dispose()
    assert models == {
        "shipped": (shipped_key("aa"), True, {"training": {"clip_accuracy": 0.5, "seed": 1}}, None),
        "trained": ("trainings/b", False, {}, {"n_clips": 4, "warnings": []}),
        "new": (
            "trainings/c",
            False,
            {"training": {"clip_accuracy": 0.9}},
            {"warnings": ["few"]},
        ),
    }
    assert n_kept == 1
    assert migrate.drift(database_url) == []


def test_a_worker_stores_the_file_of_a_model_without_one(
    database_url: str, runtime: Runtime
) -> None:
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        command.downgrade(migrate.config(connection), BEFORE_FILES)
        added = text(
            "INSERT INTO noise_models (id, name, version, sha256, header)"
            " VALUES (gen_random_uuid(), 'm', '1', :sha256, '{}') RETURNING id"
        )
        shipped_id, other_id = (
            connection.execute(added, {"sha256": sha256}).scalar_one()
            for sha256 in (classifier.shipped().sha256, "aa")
        )
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
    engine.dispose()
    assert runtime.shipped_model_id == shipped_id
    assert runtime.read_model(shipped_id).sha256 == classifier.shipped().sha256
    with pytest.raises(ModelError):
        runtime.read_model(other_id)


def test_reports_without_sums_by_group_become_stale(database_url: str) -> None:
    engine = sqlalchemy.create_engine(driver_url(database_url))
    with engine.connect() as connection:
        command.downgrade(migrate.config(connection), BEFORE_FILES)
        connection.execute(
            text(
                """
                INSERT INTO daily_reports (id, state, day, time_zone, starts_at, ends_at, report,
                    made_at, made_from, html_key)
                SELECT gen_random_uuid(), 'completed', day, 'UTC', now() - interval '1 day', now(),
                    CAST(report AS jsonb), now(), '1:1', 'page'
                FROM (VALUES
                    (DATE '2026-01-01', '{"detections": {"by_type": {}}}'),
                    ('2026-01-02', '{"detections": {"by_type": {}, "by_group": {"other": {}}}}')
                ) AS reports (day, report)
                """
            )
        )
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
        rows = connection.execute(
            text("SELECT report -> 'detections', made_from FROM daily_reports ORDER BY day")
        ).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [
        ({"by_type": {}, "by_group": {}}, ""),
        ({"by_type": {}, "by_group": {"other": {}}}, "1:1"),
    ]


#: The last revision with detections that have neither an ID nor a time.
BEFORE_IDS = "0039"


def test_detections_get_ids_times_and_owners(database_url: str) -> None:
    """More sessions than a batch; and again after a run that was interrupted."""
    engine = sqlalchemy.create_engine(driver_url(database_url))
    filled = text(
        """
        SELECT count(*), count(DISTINCT d.id),
            bool_and(d.user_id IS NOT DISTINCT FROM s.user_id
                AND d.heard_at IS NOT DISTINCT FROM s.recorded_at + make_interval(secs => start_s)),
            count(heard_at), bool_and(s.max_confidence = 0.75)
        FROM noise_detections d JOIN audio_sessions s ON s.id = session_id
        """
    )
    with engine.connect() as connection:
        command.downgrade(migrate.config(connection), BEFORE_IDS)
        connection.execute(
            text("INSERT INTO users (id, email, name) VALUES (gen_random_uuid(), 'a@b', 'a')")
        )
        connection.execute(
            text(
                """
                INSERT INTO audio_sessions
                    (id, file_name, recording_key, state, recorded_at, user_id)
                SELECT gen_random_uuid(), 'a', 'b', 'queued',
                    CASE WHEN n % 3 > 0 THEN now() END,
                    CASE WHEN n % 5 > 0 THEN (SELECT id FROM users LIMIT 1) END
                FROM generate_series(1, 1203) n
                """
            )
        )
        connection.execute(
            text(
                "INSERT INTO noise_detections"
                " (session_id, event_index, start_s, end_s, noise_type, confidence)"
                " SELECT id, n, n + 0.25, n + 1, 'rain', 0.5 + n * 0.25"
                " FROM audio_sessions, generate_series(0, 1) n"
            )
        )
        connection.commit()
        for _ in range(2):
            command.upgrade(migrate.config(connection), "head")
            connection.commit()
            found = tuple(connection.execute(filled).one())
            ids = set(connection.execute(text("SELECT id FROM noise_detections")).scalars())
            assert found == (2_406, 2_406, True, 1_604, True)
            connection.execute(text("UPDATE noise_detections SET heard_at = NULL, user_id = NULL"))
            connection.execute(text("UPDATE audio_sessions SET max_confidence = NULL"))
            connection.execute(
                text("UPDATE alembic_version SET version_num = :before"), {"before": BEFORE_IDS}
            )
            connection.commit()
        assert ids == set(connection.execute(text("SELECT id FROM noise_detections")).scalars())
        connection.commit()
        command.upgrade(migrate.config(connection), "head")
        connection.commit()
    engine.dispose()
    assert migrate.drift(database_url) == []


def test_the_sql_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    migrate.sql()
    assert "CREATE TABLE audio_sessions" in capsys.readouterr().out
