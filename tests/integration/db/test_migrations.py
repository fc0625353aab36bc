"""The migrations produce the models' schema, and can be read and reverted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from sqlalchemy import Connection, select, text

from db import migrate
from db.blobs.blob_store import Blobs
from db.engine import make_engine
from db.ids import new_id
from db.migration.chain import VERSIONS, RevisionChain
from db.migration.errors import MigrationError
from db.store import Store
from db.tables.retention import Installation
from db.tables.sessions import UNFINISHED_STATES
from db.tables.unfinished import Turn
from db.tables.webhooks import WebhookDelivery
from services.processes import standalone
from tests.support import every_table, example_rows, golden, servers

pytestmark = pytest.mark.integration

SENTENCES = golden.read(Path(__file__).parent / "golden" / "migrations.txt")


@pytest.fixture(params=["server", "embedded"])
def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database of a server, or of the embedded Postgres, which is a newer one."""
    if request.param == "server":
        yield request.getfixturevalue("database_url")
        return
    with standalone.postgres(tmp_path / "home") as url:
        migrate.upgrade(url)
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = make_engine(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_up_down_and_up_again_with_rows_in_every_table(migrated: str, tmp_path: Path) -> None:
    assert migrate.drift(migrated) == []
    store = Store(migrated)
    every_table.fill(store, Blobs((tmp_path / "blobs").as_uri()))
    store.close()
    engine = make_engine(migrated)
    with engine.connect() as connection:
        assert migrate.current(connection) == migrate.head()
        command.downgrade(migrate.config(connection), "base")
        connection.commit()
        left = connection.execute(
            text(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            )
        ).scalars()
        assert set(left) == {"alembic_version", "alembic_version_pkc"}
    engine.dispose()
    assert migrate.upgrade(migrated) == migrate.head()
    assert migrate.drift(migrated) == []


def test_a_second_upgrade_changes_nothing(database_url: str, connection: Connection) -> None:
    installation = connection.execute(select(Installation.id)).scalars().one()
    connection.commit()
    assert migrate.upgrade(database_url) == migrate.head()
    assert connection.execute(select(Installation.id)).scalars().one() == installation


def test_the_baseline_brings_the_rows_that_the_code_relies_on(connection: Connection) -> None:
    turns = connection.execute(select(Turn.state, Turn.priority)).all()
    assert {tuple(turn) for turn in turns} == {
        (state, priority) for state in UNFINISHED_STATES for priority in range(3)
    }
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        connection.execute(text("INSERT INTO installation DEFAULT VALUES"))


def test_a_new_revision_begins_without_a_change(connection: Connection) -> None:
    """Autogenerate would drop the partitions, which the models do not have."""
    command.check(migrate.config(connection))


def test_every_table_and_column_has_a_comment(connection: Connection) -> None:
    """That of Alembic too. Partitions are described by their tables."""
    without = connection.scalars(
        text(
            """
            SELECT concat_ws('.', relname, attname) FROM pg_class
            LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
              AND NOT relispartition
              AND (obj_description(pg_class.oid, 'pg_class') IS NULL
                   OR col_description(pg_class.oid, attnum) IS NULL)
            """
        )
    )
    assert without.all() == []


def test_the_printed_sql_makes_the_same_schema(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate.sql()
    printed = capsys.readouterr().out
    assert "CREATE TABLE audio_sessions" in printed
    with servers.database(postgres_url) as url:
        engine = make_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            # Without parameters the driver sends the whole text at once, as psql does with a file.
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute(printed)
            assert migrate.current(connection) == migrate.head()
        engine.dispose()
        assert migrate.drift(url) == []


PLANTED = """
from alembic import op

revision = "b999"
down_revision = {head!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN age integer")
    with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY ix_users_age ON users (age)")
"""


def test_a_migration_may_leave_its_transaction(
    database_url: str, connection: Connection, tmp_path: Path
) -> None:
    """Indexes are built concurrently, which cannot run inside a transaction."""
    (tmp_path / "b999_planted.py").write_text(PLANTED.format(head=migrate.head()))
    chain = RevisionChain((VERSIONS, tmp_path))
    assert migrate.upgrade(database_url, chain=chain) == "b999"
    assert migrate.drift(database_url) == [
        "column users.age is not in the models",
        "index ix_users_age is not in the models",
    ]
    assert migrate.current(connection) == "b999"


@pytest.mark.parametrize("revision", ["0001", "0039"])
def test_a_database_from_before_the_first_release_is_refused(
    database_url: str, connection: Connection, revision: str
) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})
    connection.commit()
    sentence = SENTENCES["a database from before the first release"].replace("0039", revision)
    for refused in (migrate.upgrade, migrate.wait_until_migrated):
        with pytest.raises(migrate.UnreleasedSchema) as caught:
            refused(database_url)
        assert str(caught.value) == sentence
    with pytest.raises(MigrationError):
        migrate.require(connection)


def test_a_schema_of_a_later_release_is_accepted(connection: Connection) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = 'b999'"))
    migrate.require(connection)


def test_ids_of_deliveries_begin_with_their_time(store: Store, tmp_path: Path) -> None:
    """The database makes them, when a session ends: UUIDs of version 7 too."""
    example_rows.add(store, Blobs((tmp_path / "blobs").as_uri()))
    with store.transaction() as tx:
        tx.execute(
            text("UPDATE audio_sessions SET state = 'queued'"),
        )
    before = new_id()
    with store.transaction() as tx:
        tx.execute(text("UPDATE audio_sessions SET state = 'failed'"))
    with store.transaction() as tx:
        made = tx.scalars(
            select(WebhookDelivery.id).where(WebhookDelivery.type == "session.failed")
        ).one()
        many = tx.scalars(text("SELECT uuid_v7() FROM generate_series(1, 1000)")).all()
    assert before.int >> 80 <= made.int >> 80 <= new_id().int >> 80
    assert {(each.version, each.variant) for each in (made, *many)} == {(7, uuid.RFC_4122)}
    assert len(set(many)) == 1_000
