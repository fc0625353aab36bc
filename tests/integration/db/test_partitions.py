"""Months of the request log and of the metrics: created ahead, dropped when they are past."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog.testing
from psycopg import errors

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import CheckHealth, CleanUp
from db import migrate
from db.migration.errors import MigrationError
from db.queries import partition_queries, retention_queries
from db.queries.partition_queries import METRICS, REQUESTS
from db.settings import Settings
from db.store import Store
from tests.support import accounts, dumps, partitions, recordings, servers
from tests.support.clock import ask, findings
from tests.support.cluster import eventually
from tests.support.pipeline import add, run_to_the_end
from tests.support.roles import WithRoles, with_roles

pytestmark = pytest.mark.integration

TABLES = (REQUESTS, METRICS)
REQUEST = """
    INSERT INTO api_requests (
        request_id, method, route, status, duration_s, bytes_in, bytes_out, user_id, received_at
    ) VALUES ('a', 'GET', '/', 200, 0.1, 0, 0, %s, coalesce(%s, now()))
    RETURNING tableoid::regclass::text
"""
METRIC = """
    INSERT INTO processing_metrics (session_id, step, attempt, result, duration_s, recorded_at)
    VALUES (gen_random_uuid(), 'x', 1, 'done', 1, coalesce(%s, now()))
"""


def month(ahead: int) -> datetime:
    """Return the begin of this month, of the next (1), or of one before (-1)."""
    now = datetime.now(UTC)
    n_months = 12 * now.year + now.month - 1 + ahead
    return datetime(n_months // 12, n_months % 12 + 1, 1, tzinfo=UTC)


def named(*months: int, tables: tuple[str, ...] = TABLES) -> set[str]:
    return {f"{table}_{month(each):%Y_%m}" for table in tables for each in months}


AHEAD = named(0, 1, 2, 3)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def created(connection: psycopg.Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT create_partitions()")}


def dropped(connection: psycopg.Connection[Any], table: str, *, days: float) -> str | None:
    kept = timedelta(days=days)
    row = connection.execute("SELECT drop_partition(%s, %s)", [table, kept]).fetchone()
    assert row is not None
    name: str | None = row[0]
    return name


def request_at(
    connection: psycopg.Connection[Any], at: datetime | str | None, user: uuid.UUID | None = None
) -> str:
    """Add a request, and return the name of its partition."""
    row = connection.execute(REQUEST, [user, at]).fetchone()
    assert row is not None
    return str(row[0])


def drop_all(url: str) -> None:
    with psycopg.connect(url) as connection:
        for name in partitions.names(url):
            connection.execute(f"DROP TABLE {name}")


def test_a_migration_creates_this_month_and_three_more(database_url: str) -> None:
    assert partitions.names(database_url) == AHEAD
    drop_all(database_url)
    said: list[str] = []
    migrate.upgrade(database_url, say=said.append)
    assert {line.split()[1] for line in said} == partitions.names(database_url) == AHEAD
    said.clear()
    migrate.upgrade(database_url, say=said.append)
    assert said == []


def test_the_plan_has_the_partitions_too(database_url: str) -> None:
    drop_all(database_url)
    plan = migrate.plan(database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(plan.encode())
    assert partitions.names(database_url) == AHEAD


@contextmanager
def clock_at(connection: psycopg.Connection[Any], now: str) -> Iterator[None]:
    """Let the two functions take another time for the present one."""
    query = (
        "SELECT pg_get_functiondef(oid) FROM pg_proc"
        " WHERE proname IN ('create_partitions', 'drop_partition')"
    )
    definitions = [definition for (definition,) in connection.execute(query)]
    for definition in definitions:
        moved, n_times = re.subn(r"\bnow\(\)", f"timestamptz '{now}'", definition)
        assert n_times == 2
        connection.execute(moved)
    yield
    for definition in definitions:
        connection.execute(definition)


def test_a_month_ends_in_utc_at_the_end_of_a_year_too(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    connection.execute("SET timezone = 'Pacific/Auckland'")
    connection.execute("SET datestyle = 'German'")
    # Still November in UTC.
    with clock_at(connection, "2031-11-30 23:59:59+00"):
        months = ("2031_11", "2031_12", "2032_01", "2032_02")
        assert created(connection) == {f"{table}_{each}" for table in TABLES for each in months}
        assert created(connection) == set()
    with clock_at(connection, "2031-12-01 00:00:00+00"):
        assert created(connection) == {f"{table}_2032_03" for table in TABLES}
    for at, of in (
        ("2031-12-31 23:59:59.999999+00", "2031_12"),
        ("2032-01-01 00:00:00+00", "2032_01"),
        ("2032-02-29 23:59:59.999999+00", "2032_02"),
    ):
        assert request_at(connection, at) == f"api_requests_{of}"
    # The last moment of 2031 is 30 days old on the last day of January.
    with clock_at(connection, "2032-01-30 23:59:59+00"):
        while (name := dropped(connection, REQUESTS, days=30)) is not None:
            assert name < "api_requests_2031_12"
    with clock_at(connection, "2032-01-31 00:00:00+00"):
        assert dropped(connection, REQUESTS, days=30) == "api_requests_2031_12"
        assert dropped(connection, REQUESTS, days=30) is None
    assert migrate.drift(database_url) == []


def test_the_job_drops_what_is_past_and_nothing_else(
    runtime: Runtime, connection: psycopg.Connection[Any]
) -> None:
    url = runtime.settings.database_url
    partitions.add_since(url, month(-4))
    kept_days = (datetime.now(UTC) - month(-2)) / timedelta(days=1)
    for ahead in (-4, -3, -2, -1, 0):
        request_at(connection, month(ahead))
        request_at(connection, month(ahead + 1) - timedelta(microseconds=1))
        connection.execute(METRIC, [month(ahead)])
    connection.execute("DROP TABLE " + ", ".join(named(1)))
    # A minute more than the whole third month.
    runtime.settings = replace(
        runtime.settings, keep_requests_days=kept_days + 1 / 1_440, keep_runs_days=0
    )
    found = findings(ask(runtime, CleanUp()))
    assert set(found["partitions_created"]) == named(1)
    assert found["partitions_dropped"] == [f"api_requests_{month(-4):%Y_%m}"]
    runtime.settings = replace(runtime.settings, keep_requests_days=kept_days - 1 / 1_440)
    found = findings(ask(runtime, CleanUp()))
    assert found["partitions_created"] == []
    assert found["partitions_dropped"] == [f"api_requests_{month(-3):%Y_%m}"]
    assert partitions.names(url) == AHEAD | named(-2, -1) | named(-4, -3, tables=(METRICS,))
    for query, n_rows in (
        ("SELECT count(*) FROM api_requests", 6),
        ("SELECT count(*) FROM processing_metrics WHERE step = 'x'", 5),
    ):
        assert connection.execute(query).fetchone() == (n_rows,)


def test_only_whole_past_months_of_the_two_tables_can_be_dropped(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    partitions.add_since(database_url, month(-1))
    connection.execute("CREATE TABLE other (at timestamptz) PARTITION BY RANGE (at)")
    connection.execute(
        "CREATE TABLE other_1 PARTITION OF other FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
    )
    for table in ("other", "users", "nothing", "api_requests; DROP TABLE users"):
        assert dropped(connection, table, days=0) is None
    assert dropped(connection, REQUESTS, days=-9_999) == f"api_requests_{month(-1):%Y_%m}"
    assert dropped(connection, REQUESTS, days=-9_999) is None


def test_requests_are_written_while_months_come_and_go(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    partitions.add_since(database_url, month(-6))
    ended = threading.Event()

    def insert() -> int:
        n_rows = 0
        with psycopg.connect(database_url) as writer:
            while not ended.is_set():
                request_at(writer, None, accounts.TEAM)
                writer.commit()
                n_rows += 1
        return n_rows

    with ThreadPoolExecutor(3) as pool:
        writing = [pool.submit(insert) for _ in range(3)]
        for _ in range(6):
            # Beside writers that never pause the lock may not be free in time.
            assert eventually(lambda: _dropped_once(connection), what="a lock")
            connection.execute("DROP TABLE " + ", ".join(named(2, 3)))
            assert created(connection) == named(2, 3)
        ended.set()
        n_rows = sum(each.result() for each in writing)
    assert partitions.names(database_url) == AHEAD | named(*range(-6, 0), tables=(METRICS,))
    assert connection.execute("SELECT count(*) FROM api_requests").fetchone() == (n_rows,)
    assert n_rows > 0


def _dropped_once(connection: psycopg.Connection[Any]) -> str | None:
    try:
        return dropped(connection, REQUESTS, days=0)
    except errors.LockNotAvailable:
        return None


def test_several_processes_may_create_at_once(database_url: str) -> None:
    for _ in range(5):
        drop_all(database_url)
        begin = threading.Barrier(4)

        def create(begin: threading.Barrier = begin) -> set[str]:
            with psycopg.connect(database_url) as connection:
                begin.wait()
                return created(connection)

        with ThreadPoolExecutor(4) as pool:
            made = [name for each in pool.map(lambda _: create(), range(4)) for name in each]
        assert sorted(made) == sorted(AHEAD)


def test_partitions_are_created_beside_a_dump(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    connection.execute("DROP TABLE " + ", ".join(named(3)))
    with psycopg.connect(database_url) as dump:
        dump.execute("LOCK TABLE api_requests, processing_metrics, users IN ACCESS SHARE MODE")
        assert created(connection) == named(3)


def test_a_month_that_is_in_use_is_dropped_by_a_later_run(runtime: Runtime) -> None:
    url = runtime.settings.database_url
    partitions.add_since(url, month(-1))
    runtime.settings = replace(runtime.settings, keep_requests_days=0.01, keep_runs_days=0.01)
    with psycopg.connect(url) as dump, structlog.testing.capture_logs() as logs:
        dump.execute("LOCK TABLE api_requests IN ACCESS SHARE MODE")
        found = findings(ask(runtime, CleanUp()))
        # The other table is not affected, nor is the rest of the run.
        assert found["partitions_dropped"] == sorted(named(-1, tables=(METRICS,)))
    assert [each["table"] for each in logs if each["event"] == "partition_locked"] == [REQUESTS]
    found = findings(ask(runtime, CleanUp()))
    assert found["partitions_dropped"] == sorted(named(-1, tables=(REQUESTS,)))


def test_work_is_done_without_a_partition_for_its_metrics(runtime: Runtime) -> None:
    drop_all(runtime.settings.database_url)
    done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
    assert done.state == "completed", done.problem
    assert len(findings(ask(runtime, CleanUp()))["partitions_created"]) == 8
    # The job itself ended after it had created them.
    with runtime.store.reading() as tx:
        assert tx.connection().exec_driver_sql("SELECT step FROM processing_metrics").all() == [
            (CleanUp.actor,)
        ]


def test_a_month_that_was_detached_is_none(runtime: Runtime) -> None:
    """It keeps its name, so no other can be created in its place."""
    [name] = named(0, tables=(METRICS,))
    with psycopg.connect(runtime.settings.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {METRICS} DETACH PARTITION {name}")
        done = run_to_the_end(runtime, add(runtime, recordings.encode(recordings.demo())))
        assert done.state == "completed", done.problem
        with pytest.raises(errors.DuplicateTable, match=name):
            created(connection)
        with pytest.raises(MigrationError, match="move the table to another schema"):
            migrate.upgrade(runtime.settings.database_url)
        fault = findings(ask(runtime, CheckHealth()))["faults"]["partitions"]
        assert fault.startswith(f"{METRICS} has no partition from {datetime.now(UTC).date()} on")
        connection.execute(f"ALTER TABLE {name} RENAME TO mine")
        assert created(connection) == {name}


def test_the_removal_of_a_user_reaches_every_month(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    partitions.add_since(database_url, month(-2))
    for ahead in (-2, -1, 0):
        request_at(connection, month(ahead), accounts.TEAM)
    connection.execute("DELETE FROM users WHERE id = %s", [accounts.TEAM])
    found = connection.execute("SELECT count(*), count(user_id) FROM api_requests").fetchone()
    assert found == (3, 0)


def test_the_partitions_are_no_difference_of_the_schema(
    connection: psycopg.Connection[Any], database_url: str
) -> None:
    connection.execute("DROP TABLE " + ", ".join(named(0, 3)))
    partitions.add_since(database_url, month(-2))
    name = min(named(-2))
    connection.execute(f"CREATE INDEX ON {name} (request_id)")
    connection.execute(f"ALTER TABLE {name} SET (fillfactor = 50)")
    connection.execute(f"COMMENT ON TABLE {name} IS 'old'")
    assert migrate.drift(database_url) == []
    connection.execute("ALTER TABLE api_requests ADD COLUMN extra int")
    assert migrate.drift(database_url) == ["column api_requests.extra is not in the models"]


def test_a_table_has_the_rows_and_bytes_of_its_partitions(
    store: Store, connection: psycopg.Connection[Any], database_url: str
) -> None:
    partitions.add_since(database_url, month(-1))
    for ahead in (-1, 0):
        request_at(connection, month(ahead))
    connection.execute("SELECT pg_stat_force_next_flush()")

    def size() -> Any:
        with store.reading() as tx:
            found = retention_queries.tables(tx)
        assert not found.keys() & partitions.names(database_url)
        return found[REQUESTS] if found[REQUESTS]["live_rows"] == 2 else None

    assert eventually(size, what="the statistics")["size_bytes"] >= 2 * 8_192


def test_a_dump_has_the_partitions_and_their_functions(
    postgres_url: str, database_url: str, tmp_path: Path
) -> None:
    partitions.add_since(database_url, month(-2))
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE " + ", ".join(named(2, 3)))
        request_at(connection, month(-2), accounts.TEAM)
    restored = dumps.restore(
        dumps.dump(database_url, tmp_path / "clamor.dump"), server_url=postgres_url
    )
    try:
        assert migrate.drift(restored) == []
        assert partitions.names(restored) == named(-2, -1, 0, 1)
        with psycopg.connect(restored, autocommit=True) as connection:
            assert request_at(connection, None, accounts.TEAM) in named(0)
            # The identity continues.
            assert connection.execute("SELECT id FROM api_requests ORDER BY id").fetchall() == [
                (1,),
                (2,),
            ]
            assert created(connection) == named(2, 3)
            assert dropped(connection, REQUESTS, days=27) in named(-2)
    finally:
        servers.drop_database(restored, server_url=postgres_url)


@pytest.fixture(scope="module", params=["found", "embedded"])
def roles(request: pytest.FixtureRequest) -> Iterator[WithRoles]:
    """Yield roles, and tables in a schema whose name needs quotes."""
    with servers.database_of(request.param) as url, with_roles(url, schema='Clamor\'s "2"') as made:
        migrate.upgrade(made.owner_url)
        accounts.add_first(made.app_url)
        yield made


def test_the_application_creates_and_drops_months_but_has_no_ddl(
    roles: WithRoles, memory_settings: Settings
) -> None:
    with psycopg.connect(roles.owner_url) as owner:
        owner.execute("DROP TABLE " + ", ".join(named(1, 3)))
        for table in TABLES:
            owner.execute(
                f"CREATE TABLE {table}_2020_01 PARTITION OF {table}"
                " FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
            )
    settings = replace(memory_settings, database_url=roles.app_url)
    runtime = Runtime(settings, broker.setup(settings))
    try:
        found = findings(ask(runtime, CleanUp()))
    finally:
        runtime.close()
    assert set(found["partitions_created"]) == named(1, 3)
    assert found["partitions_dropped"] == [f"{table}_2020_01" for table in TABLES]
    with psycopg.connect(roles.owner_url) as owner:
        owners = owner.execute(
            "SELECT DISTINCT relowner = quote_ident(current_user)::regrole FROM pg_class"
            " WHERE relname = ANY(%s)",
            [list(named(1, 3))],
        ).fetchall()
    assert owners == [(True,)]
    with psycopg.connect(roles.app_url, autocommit=True) as app:
        for name in named(0):
            with pytest.raises(errors.InsufficientPrivilege):
                app.execute(f"DROP TABLE {name}")
    with psycopg.connect(roles.reader_url, autocommit=True) as reader:
        reader.execute("SET default_transaction_read_only = off")
        for call in ("create_partitions()", "drop_partition('api_requests', '0')"):
            with pytest.raises(errors.InsufficientPrivilege):
                reader.execute(f"SELECT {call}")


def test_objects_of_the_caller_are_not_taken_for_the_tables(roles: WithRoles) -> None:
    with psycopg.connect(roles.owner_url) as owner:
        owner.execute("DROP TABLE " + ", ".join(named(2)))
    with psycopg.connect(roles.app_url) as app:
        app.execute("CREATE TEMP TABLE api_requests (at timestamptz) PARTITION BY RANGE (at)")
        app.execute(
            "CREATE TEMP TABLE mine PARTITION OF pg_temp.api_requests"
            " FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
        )
        app.execute("SET search_path = pg_temp")
        schema = roles.names.schema.replace('"', '""')
        row = app.execute(f"SELECT \"{schema}\".drop_partition('api_requests', '0')").fetchone()
        assert row == (None,)
        made = {name for (name,) in app.execute(f'SELECT "{schema}".create_partitions()')}
        assert made == named(2)
        assert app.execute("SELECT count(*) FROM mine").fetchone() == (0,)


def test_a_grant_after_a_restore_without_privileges_closes_the_functions(roles: WithRoles) -> None:
    with psycopg.connect(roles.owner_url) as owner:
        owner.execute("GRANT EXECUTE ON FUNCTION create_partitions() TO PUBLIC")
    roles.grant()
    with psycopg.connect(roles.reader_url) as reader, pytest.raises(errors.InsufficientPrivilege):
        reader.execute("SELECT create_partitions()")
    store = Store(roles.app_url, pool_size=1)
    with store.transaction() as tx:
        assert partition_queries.create_partitions(tx) == []
    store.close()
