"""Steps of migrations: what they leave behind, interrupted at any statement, and run again."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from db import migrate
from db.migration import lock
from db.migration.chain import BASE
from db.migration.errors import MigrationError
from tests.support import planted, servers
from tests.support.cluster import eventually

pytestmark = pytest.mark.integration

#: The chain has no more statements than this.
MOST_STATEMENTS = 120
BUILDS = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"


@pytest.fixture(scope="module")
def database(postgres_url: str) -> Iterator[str]:
    with servers.database(postgres_url) as url:
        yield url


@pytest.fixture
def url(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database."""
    planted.empty(database)
    monkeypatch.setattr(lock, "LOCK_POLL_S", 0.02)
    return database


def up(url: str, to: str | None = None) -> str:
    return migrate.upgrade(url, to=to, chain=planted.CHAIN)


#: Savepoints of the driver's first look at a server; the comparison of definitions, which is
#: rolled back.
ASIDE = re.compile(r"SAVEPOINT|RELEASE|.*clamor_wanted_definition")


def normal(statements: list[str]) -> list[str]:
    """Return statements on a line each, without transactions that change nothing."""
    kept: list[str] = []
    for statement in statements:
        line = " ".join(re.sub(r"^--.*$", "", statement, flags=re.MULTILINE).split())
        line = line.replace("BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN")
        line = line.replace(" RETURNING alembic_version.version_num", "")
        if line in ("COMMIT", "ROLLBACK") and kept[-1:] == ["BEGIN"]:
            kept.pop()
        elif not ASIDE.match(line):
            kept.append(line)
    return kept


def of_plan(sql: str) -> list[str]:
    return [each for each in normal(sql.split(";\n\n")) if each]


def test_the_chain_goes_up_down_and_up(url: str) -> None:
    assert up(url) == "p3"
    first = planted.snapshot(url)
    for to in ("p2", "p1"):
        assert migrate.downgrade(url, to, chain=planted.CHAIN) == to
    up(url)
    assert planted.snapshot(url) == first
    migrate.downgrade(url, BASE, chain=planted.CHAIN)
    assert not any(rows for kind, rows in planted.snapshot(url).items() if kind == "triggers")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('items')").fetchone() == (None,)


def test_rows_are_filled_and_refused(url: str) -> None:
    up(url)
    with psycopg.connect(url, autocommit=True) as connection:
        kinds = connection.execute("SELECT DISTINCT kind FROM items").fetchall()
        notes = connection.execute("SELECT text FROM notes").fetchall()
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("UPDATE items SET kind = 'other' WHERE id = 1")
        with pytest.raises(psycopg.errors.NotNullViolation):
            connection.execute("UPDATE items SET kind = NULL WHERE id = 1")
    assert (kinds, notes) == ([("plain",)], [("a %s note: '%'",)])


def test_killed_at_any_statement_and_run_again(url: str) -> None:
    up(url)
    whole = planted.snapshot(url)

    def stop(n: int, *, at: int) -> None:
        if n == at:
            os.kill(os.getpid(), signal.SIGKILL)

    for at in range(1, MOST_STATEMENTS):
        planted.empty(url)
        run = partial(planted.run_and_count, partial(up, url), stop=partial(stop, at=at))
        code = planted.ended(planted.fork(run))
        assert up(url) == "p3"
        assert planted.snapshot(url) == whole, f"killed at statement {at}"
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert 40 < at < MOST_STATEMENTS - 1


def test_the_plan_is_what_runs(url: str) -> None:
    plan = migrate.plan(url, chain=planted.CHAIN)
    with planted.sent() as statements:
        up(url)
    ran = normal(statements)
    # The first batch has no key to start after, and there are several.
    changes = [each for each in ran if each.startswith("UPDATE items")]
    assert len(changes) > 2
    first = ran.index(changes[0])
    ran = [each for n, each in enumerate(ran) if n == first + 1 or each not in changes]
    planned = of_plan(plan)
    reads = [each for each in planned if each.startswith("SELECT")]
    assert len(reads) == 1
    assert ran == [each for each in planned if each not in reads]
    assert migrate.plan(url, chain=planted.CHAIN).startswith("-- nothing is pending")


def test_the_plan_of_an_interrupted_revision_is_what_is_left(url: str) -> None:
    up(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'p1'")
    plan = migrate.plan(url, to="p2", chain=planted.CHAIN)
    assert "-- index uq_items_name: there already" in plan
    assert "-- index ix_items_owner_id: of another definition" in plan
    assert "DROP CONSTRAINT ck_items_kind, ADD CONSTRAINT ck_items_kind" in plan
    assert "CREATE UNIQUE INDEX" not in plan


def oid(url: str, index: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regclass(%s)::oid", (index,)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_valid_index_is_kept_and_another_replaced(url: str) -> None:
    up(url, "p1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE UNIQUE INDEX uq_items_name ON items (lower(name))")
        connection.execute("CREATE INDEX ix_items_owner_id ON items (owner_id)")
    kept, other = oid(url, "uq_items_name"), oid(url, "ix_items_owner_id")
    up(url, "p2")
    assert oid(url, "uq_items_name") == kept
    assert oid(url, "ix_items_owner_id") != other
    again = planted.snapshot(url)
    planted.empty(url)
    up(url, "p2")
    assert again == planted.snapshot(url)


def test_an_index_whose_build_was_ended_is_built_again(url: str) -> None:
    up(url, "p1")
    failures: list[str] = []

    def migrating() -> None:
        try:
            up(url, "p2")
        except MigrationError as error:
            failures.append(str(error))

    end = BUILDS.replace("pid", "pg_terminate_backend(pid)", 1)
    with psycopg.connect(url) as old, psycopg.connect(url, autocommit=True) as other:
        # A build waits for transactions that are older than it.
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM owners")
        thread = threading.Thread(target=migrating)
        thread.start()
        eventually(lambda: other.execute(BUILDS).fetchone() is not None, what="a build")
        other.execute(end)
        thread.join(60)
    [failure] = failures
    assert "run clamor migrate again" in failure
    assert "\n" not in failure
    status = migrate.status(url, chain=planted.CHAIN)
    assert status.invalid_indexes == ["ix_items_owner_id"]
    assert "REINDEX INDEX CONCURRENTLY ix_items_owner_id" in status.problems()[1]
    assert "ix_items_owner_id: invalid" in migrate.plan(url, chain=planted.CHAIN)
    up(url, "p2")
    assert migrate.status(url, chain=planted.CHAIN).invalid_indexes == []
    again = planted.snapshot(url)
    planted.empty(url)
    up(url, "p2")
    assert again == planted.snapshot(url)


def test_a_process_killed_during_a_build_is_followed_when_the_build_has_ended(url: str) -> None:
    """The server continues the build, and its connection keeps the lock until then."""
    lines: list[str] = []
    with psycopg.connect(url) as old, psycopg.connect(url, autocommit=True) as other:
        up(url, "p1")
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM owners")
        pid = planted.fork(partial(up, url, "p2"))
        eventually(lambda: other.execute(BUILDS).fetchone() is not None, what="a build")
        os.kill(pid, signal.SIGKILL)
        assert planted.ended(pid) == -signal.SIGKILL
        built = oid(url, "ix_items_owner_id")
        how = {"to": "p2", "chain": planted.CHAIN, "say": lines.append}
        thread = threading.Thread(target=migrate.upgrade, args=(url,), kwargs=how)
        thread.start()
        eventually(lambda: lines, what="a line about the wait")
        old.rollback()
        thread.join(60)
    assert lines[0].startswith("waits for another migration, process ")
    assert "index ix_items_owner_id: there already" in lines
    assert oid(url, "ix_items_owner_id") == built
    assert migrate.status(url, chain=planted.CHAIN).invalid_indexes == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_long_step_as_any_command(
    url: str, number: signal.Signals, code: int
) -> None:
    def migrating() -> None:
        # As the command does.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        up(url, "p2")

    with psycopg.connect(url) as old, psycopg.connect(url, autocommit=True) as other:
        up(url, "p1")
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM owners")
        pid = planted.fork(migrating)
        eventually(lambda: other.execute(BUILDS).fetchone() is not None, what="a build")
        os.kill(pid, number)
        assert planted.ended(pid) == code
    assert up(url, "p2") == "p2"
    assert migrate.status(url, chain=planted.CHAIN).invalid_indexes == []


def test_an_invalid_index_of_others_is_reported(url: str) -> None:
    up(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE INDEX ix_own ON items (name)")
        connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_own'::regclass"
        )
    lines: list[str] = []
    migrate.upgrade(url, chain=planted.CHAIN, say=lines.append)
    [line] = lines
    assert "REINDEX INDEX CONCURRENTLY ix_own" in line


def test_rows_that_keep_appearing_are_an_error(url: str, tmp_path: Path) -> None:
    up(url, "p1")
    failure = refused(url, tmp_path, "steps.backfill('items', 'name = name', 'true')")
    assert "new rows need a default or a trigger" in failure


def test_op_before_a_step_is_refused(url: str, tmp_path: Path) -> None:
    up(url, "p1")
    before = planted.snapshot(url)
    failure = refused(
        url, tmp_path, "op.execute('DROP TABLE owners'); steps.drop_index('ix_items_spare')"
    )
    assert "write op after the steps" in failure
    assert planted.snapshot(url) == before


def test_rows_that_violate_a_check_are_reported_without_their_values(
    url: str, tmp_path: Path
) -> None:
    up(url, "p1")
    failure = refused(url, tmp_path, "steps.add_check('ck_small', 'items', 'id < 100')")
    assert "ck_small" in failure
    assert "correct the rows that violate it" in failure
    unique = "steps.create_index('uq_owner', 'items', 'owner_id', unique=True)"
    failure = refused(url, tmp_path, unique)
    assert "remove the duplicate rows" in failure
    assert "(owner_id)=" not in failure


def refused(url: str, folder: Path, body: str) -> str:
    """Return the error of a revision after the first that consists of some code."""
    with pytest.raises(MigrationError) as failure:
        migrate.upgrade(url, chain=planted.chain_with(folder, body))
    assert "\n" not in str(failure.value)
    return str(failure.value)
