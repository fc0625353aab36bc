"""Migrations beside transactions that stay open, VACUUM, readers, and other migrations."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from db import migrate
from db.migration import lock
from db.migration.chain import RevisionChain
from db.migration.errors import MigrationError
from tests.support import planted, servers
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

#: What is blocked in these tests is released long before.
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with servers.database(postgres_url) as url:
        yield url


@pytest.fixture
def url(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the tables of the chain."""
    planted.empty(database)
    migrate.upgrade(database, to="p1", chain=planted.CHAIN)
    monkeypatch.setattr("db.migration.execution.PAUSES_S", (0.2,))
    monkeypatch.setattr("db.migration.watch.LINE_S", 0.2)
    return database


class Migration:
    """A migration to a revision in another thread, with what it says."""

    def __init__(
        self,
        url: str,
        to: str,
        *,
        chain: RevisionChain = planted.CHAIN,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.lines: list[str] = []
        self._pool = ThreadPoolExecutor(1)
        self.future: Future[str] = self._pool.submit(
            migrate.upgrade,
            url,
            to=to,
            chain=chain,
            patience_s=patience_s,
            say=self.lines.append,
        )
        self._pool.shutdown(wait=False)

    def says(self, *words: str) -> None:
        """Wait for a line that contains some words."""
        eventually(
            lambda: any(all(word in line for word in words) for line in self.lines),
            what=f"a line with {words}",
        )


@contextmanager
def open_transaction(url: str, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Keep a transaction open, as a dump does."""
    with psycopg.connect(url, application_name="a dump") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(statement)
        yield connection
        connection.rollback()


def test_brief_steps_wait_for_a_dump_of_the_table_and_let_readers_pass(url: str) -> None:
    n_reads = 0
    with (
        psycopg.connect(url, autocommit=True) as reader,
        open_transaction(url, "SELECT count(*) FROM items"),
    ):
        migration = Migration(url, "p2")
        migration.says("column items.kind", "a dump", "next try")
        tries = len(migration.lines)
        # Each read has waited behind the step for no longer than its lock timeout: it ends while
        # the dump is open and the step is not done.
        while len(migration.lines) < tries + 3:
            reader.execute("SELECT name FROM items WHERE id = 7")
            n_reads += 1
        assert not migration.future.done()
    assert migration.future.result(60) == "p2"
    assert n_reads >= 3


def test_long_steps_wait_for_a_dump_of_another_table(url: str) -> None:
    with open_transaction(url, "SELECT count(*) FROM owners"):
        migration = Migration(url, "p2")
        # The brief steps before it are done, although the dump is open.
        migration.says("index ix_items_owner_id", "waits for", "a dump")
        assert not migration.future.done()
    assert migration.future.result(60) == "p2"
    assert not any("next try" in line for line in migration.lines)


#: A step of each kind, and what it waits for: a transaction that has read ``items``, one that has
#: read ``owners`` and is older than the step, VACUUM of ``items``.
STEPS = {
    "steps.add_column('items', 'extra text')": {"items", "VACUUM"},
    "steps.add_check('ck_extra', 'items', 'id > 0')": {"items", "VACUUM"},
    "steps.create_index('ix_extra', 'items', 'name')": {"items", "owners", "VACUUM"},
    "steps.drop_index('ix_items_spare')": {"items", "VACUUM"},
    "steps.backfill('items', \"spare = ''\", 'spare IS NULL')": set(),
}


@pytest.mark.parametrize("other", ["items", "owners", "VACUUM"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_waits_for_the_end_of_what_holds_it_back(
    url: str, tmp_path: Path, step: str, other: str
) -> None:
    chain = planted.chain_with(tmp_path, step)
    beside = vacuum(url) if other == "VACUUM" else open_transaction(url, f"TABLE {other}")
    with beside:
        migration = Migration(url, "p2", chain=chain)
        if other in STEPS[step]:
            migration.says("waits for")
            assert not migration.future.done()
        else:
            assert migration.future.result(60) == "p2"
    assert migration.future.result(60) == "p2"
    assert migrate.status(url, chain=chain).invalid_indexes == []
    beside_other = planted.snapshot(url)
    planted.empty(url)
    migrate.upgrade(url, chain=chain)
    assert beside_other == planted.snapshot(url)


@contextmanager
def vacuum(url: str) -> Iterator[None]:
    """Run a VACUUM that takes seconds; wait for its end at the end of the block."""
    with (
        psycopg.connect(url, autocommit=True) as other,
        psycopg.connect(url, autocommit=True) as vacuuming,
        ThreadPoolExecutor(1) as pool,
    ):
        # Each page costs a pause.
        vacuuming.execute("SET vacuum_cost_delay = 100")
        vacuuming.execute("SET vacuum_cost_limit = 1")
        other.execute("DELETE FROM items WHERE id % 20 = 0")
        running = pool.submit(vacuuming.execute, "VACUUM items")
        under_way = "SELECT 1 FROM pg_stat_progress_vacuum WHERE datname = current_database()"
        eventually(lambda: other.execute(under_way).fetchone() is not None, what="a vacuum")
        yield
        running.result(120)


def test_patience_ends_with_nothing_half_done(url: str) -> None:
    before = planted.snapshot(url)
    with open_transaction(url, "LOCK TABLE items IN ACCESS SHARE MODE"):
        failure = Migration(url, "p2", patience_s=0.5).future.exception(60)
    assert isinstance(failure, MigrationError)
    assert "column items.kind: no lock within 0 s, because of process" in str(failure)
    assert "a longer --patience" in str(failure)
    assert "\n" not in str(failure)
    assert planted.snapshot(url) == before
    assert migrate.upgrade(url, to="p2", chain=planted.CHAIN) == "p2"


def test_two_processes_migrate_at_once(url: str) -> None:
    with open_transaction(url, "LOCK TABLE items IN ACCESS SHARE MODE"):
        first = Migration(url, "p3")
        first.says("next try")
        second = Migration(url, "p3")
        second.says("waits for another migration, process ")
    assert (first.future.result(60), second.future.result(60)) == ("p3", "p3")
    assert any(line.startswith("p2: ") for line in first.lines)
    [line] = second.lines
    assert re.search(r"process \d+ of the server$", line)


def test_a_backfill_waits_for_a_locked_row_and_lets_writers_pass(url: str, tmp_path: Path) -> None:
    chain = planted.chain_with(tmp_path, "steps.backfill('items', \"spare = ''\", 'spare IS NULL')")
    with (
        psycopg.connect(url) as locking,
        psycopg.connect(url, autocommit=True) as writer,
    ):
        locking.execute("UPDATE items SET name = name WHERE id = 3500")
        migration = Migration(url, "p2", chain=chain)
        migration.says("rows of items", "next try")
        # This row is in the batch that waits; the writer ends while the batch still waits.
        writer.execute("UPDATE items SET name = 'item' WHERE id = 3400")
        assert not migration.future.done()
        locking.commit()
        assert migration.future.result(60) == "p2"
        left = writer.execute("SELECT count(*) FROM items WHERE spare IS NULL").fetchone()
    assert left == (0,)


def test_a_long_wait_is_not_ended_by_a_timeout(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build outlasts the timeouts of brief steps."""
    monkeypatch.setattr("db.migration.execution.LOCK_TIMEOUTS_MS", (100,))
    monkeypatch.setattr("db.migration.execution.STATEMENT_TIMEOUT_MS", 1_000)
    with open_transaction(url, "SELECT count(*) FROM owners"):
        migration = Migration(url, "p2")
        migration.says("index ix_items_owner_id", "waits for")
        began_at = time.monotonic()
        eventually(lambda: time.monotonic() - began_at > 1.5, what="the end of both timeouts")
        assert not migration.future.done()
    assert migration.future.result(60) == "p2"


def test_a_process_that_migrates_for_too_long_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_transaction(url, "LOCK TABLE items IN ACCESS SHARE MODE"):
        first = Migration(url, "p2")
        first.says("next try")
        monkeypatch.setattr(lock, "LOCK_WAIT_S", 0.0)
        failure = Migration(url, "p2").future.exception(60)
    assert isinstance(failure, MigrationError)
    assert "run clamor migrate again when it has ended" in str(failure)
    assert first.future.result(60) == "p2"


def test_a_brief_step_ends_an_autovacuum(tmp_path: Path) -> None:
    """The server cancels an autovacuum only for those who wait longer than its deadlock timeout."""
    slow = (
        "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    )
    workers = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM%items%'"
    chain = planted.chain_with(tmp_path, "steps.drop_column('items', 'spare')")
    with (
        servers.private_postgres() as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        connection.execute("SELECT pg_reload_conf()")
        # The owner of the tables sees in no view of activity what an autovacuum is.
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute("ALTER SCHEMA public OWNER TO plain")
        url = make_url(server.url).set(username="plain").render_as_string(hide_password=False)
        migrate.upgrade(url, to="p1", chain=chain)
        connection.execute(
            "INSERT INTO items SELECT i, 1, 'item' FROM generate_series(4001, 90000) i"
        )
        connection.execute(f"ALTER TABLE items SET ({slow})")
        connection.execute("DELETE FROM items WHERE id % 2 = 0")
        eventually(lambda: connection.execute(workers).fetchone(), what="an autovacuum")
        migration = Migration(url, "p2", chain=chain)
        assert migration.future.result(120) == "p2"
    assert any("next try" in line for line in migration.lines)
