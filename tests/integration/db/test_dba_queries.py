"""The SQL of docs/dba.md, on a database with a row in every table.

A block that begins with ``sql run`` is run; the others create or change roles.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from actors.execution.runtime import Runtime
from actors.messaging.kinds import KINDS
from db import catalog, migrate
from db.tables.base import Base
from tests.support import every_table, servers
from tests.support.cluster import eventually
from tests.support.documents import BLOCK, ROOT
from tests.support.pipeline import add
from tests.support.planted import plant_invalid_index

pytestmark = pytest.mark.integration

DOCUMENT = ROOT / "docs" / "dba.md"
BLOCKS: list[str] = [
    text for _, kind, text in BLOCK.findall(DOCUMENT.read_text()) if kind == "sql run"
]


def block(word: str) -> str:
    """Return the one block that has a word."""
    (found,) = (text for text in BLOCKS if word in text)
    return found


LONG = block("AS transaction_age")
HORIZON = block("pg_replication_slots")
BLOCKED = block("pg_blocking_pids")
CONNECTIONS = block("max_connections")
DEAD = block("dead_percent")
XIDS = block("relfrozenxid")
INVALID = block("pg_stat_progress_create_index")
UNFINISHED = block("WITH work")
BIGGEST = block("pg_size_pretty")
SEQUENCES = block("setval")


@contextmanager
def connected(url: str, name: str = "a person") -> Iterator[psycopg.Connection[DictRow]]:
    with psycopg.connect(
        url, application_name=name, autocommit=True, row_factory=dict_row
    ) as connection:
        yield connection


def rows(url: str, sql: str) -> list[dict[str, Any]]:
    """Run a query of the document; return its rows."""
    with connected(url) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("which", ["found", "embedded"])
def test_every_block_runs(which: str) -> None:
    """On the oldest release of Postgres that is supported, and on a later one."""
    with servers.database_of(which) as url:
        migrate.upgrade(url)
        with connected(url) as connection:
            for text in BLOCKS:
                for statement in filter(str.strip, text.split(";\n")):
                    connection.execute(statement)
    assert len(BLOCKS) == 12


def test_transactions_and_locks_are_shown_with_their_sessions(database_url: str) -> None:
    short = LONG.replace("interval '1 minute'", "interval '0'")
    assert short != LONG
    with connected(database_url, "holder") as holder, connected(database_url, "waiter") as waiter:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        # The first query takes the snapshot that the transaction keeps.
        holder.execute("SELECT count(*) FROM users")
        holder.execute("LOCK TABLE users")
        waiter.execute("BEGIN")
        waits = threading.Thread(target=waiter.execute, args=("SELECT count(*) FROM users",))
        waits.start()
        try:
            # Other sessions may wait on the same server.
            (blocked,) = eventually(
                lambda: [
                    each
                    for each in rows(database_url, BLOCKED)
                    if each["pid"] == waiter.info.backend_pid
                ],
                what="the waiter to wait",
            )
            assert blocked["holder"] == holder.info.backend_pid
            assert blocked["query"] == "SELECT count(*) FROM users"
            assert blocked["holder_state"] == "idle in transaction"
            assert {"holder", "waiter"} <= {
                each["application_name"] for each in rows(database_url, short)
            }
            # Nothing here is a minute old.
            long = {each["application_name"] for each in rows(database_url, LONG)}
            assert not long & {"holder", "waiter"}
            assert f"session {holder.info.backend_pid} holder" in {
                each["what"] for each in rows(database_url, HORIZON)
            }
            mine = {each["application_name"]: each for each in rows(database_url, CONNECTIONS)}
            assert mine["holder"]["count"] == 1
        finally:
            holder.execute("ROLLBACK")
            waits.join()


def test_dead_rows_ids_and_sizes_have_the_tables(database_url: str) -> None:
    with connected(database_url) as connection:
        connection.execute("ALTER TABLE users SET (autovacuum_enabled = off)")
        connection.execute("UPDATE users SET name = name")
        n = connection.execute("UPDATE users SET name = name").rowcount

    def users() -> dict[str, Any] | None:
        found = {each["relname"]: each for each in rows(database_url, DEAD)}
        return found["users"] if "users" in found and found["users"]["n_dead_tup"] else None

    dead = eventually(users, what="the statistics")
    assert dead["n_dead_tup"] == 2 * n
    assert 0 < dead["dead_percent"] <= 100
    oldest = rows(database_url, XIDS)
    assert 0 <= oldest[0]["percent_of_limit"] < 50
    assert oldest[0]["transactions"] >= oldest[-1]["transactions"] >= 0
    assert len(oldest) == len(rows(database_url, BIGGEST)) == 10


def test_an_invalid_index_is_shown(database_url: str) -> None:
    assert rows(database_url, INVALID) == []
    plant_invalid_index(database_url)
    (found,) = rows(database_url, INVALID)
    assert (found["index"], found["build_in_progress"]) == ("ix_planted", None)


def test_unfinished_work_of_every_kind_is_counted(runtime: Runtime) -> None:
    url = runtime.settings.database_url
    every_table.fill(runtime.store, runtime.blobs)
    add(runtime, b"x")
    found = {each["kind"]: each for each in rows(url, UNFINISHED)}
    assert found["session queued"]["unfinished"] >= 1
    assert found["session queued"]["oldest"].total_seconds() >= 0
    with connected(url) as connection:
        connection.execute("UPDATE unfinished_sessions SET due_at = now() + interval '1 minute'")
    again = {each["kind"]: each for each in rows(url, UNFINISHED)}
    assert again["session queued"]["claimed"] == again["session queued"]["unfinished"]
    # Another kind of work needs another part of the query.
    tables = {kind.rows.table.__table__.name for kind in KINDS}  # type: ignore[attr-defined]
    assert tables <= set(re.findall(r"(?:FROM|JOIN) (\w+)", UNFINISHED))


def test_every_sequence_is_set(runtime: Runtime) -> None:
    identities = {
        (table.name, column.name)
        for table in Base.metadata.tables.values()
        for column in table.columns
        if column.identity is not None
    }
    assert identities == set(re.findall(r"sequence\('(\w+)', '(\w+)'\)", SEQUENCES))
    every_table.fill(runtime.store, runtime.blobs)
    with connected(runtime.settings.database_url) as connection:
        connection.execute("ALTER SEQUENCE promotions_id_seq RESTART WITH 1")
        for statement in filter(str.strip, SEQUENCES.split(";\n")):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO promotions (model_id, forced, comparison)"
            " SELECT model_id, forced, comparison FROM promotions LIMIT 1"
        )


def test_the_settings_of_autovacuum_are_no_difference(runtime: Runtime) -> None:
    with connected(runtime.settings.database_url) as connection:
        for statement in filter(str.strip, block("scale_factor").split(";\n")):
            connection.execute(statement)
    with runtime.store.engine.connect() as compared:
        assert catalog.differences(compared) == []
