"""Clamor over PgBouncer in transaction mode: each transaction may run in another session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import func, literal_column, select, text
from structlog.testing import capture_logs

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import VacuumDatabase
from db.connection_options import TRANSACTION_POOLER, ConnectionOptions
from db.queries import detection_queries
from db.queries.detection_queries import DetectionFilter
from db.settings import Settings
from db.store import CompiledQuery, Store
from db.temporary_errors import is_temporary
from services.cli import main as cli
from services.client import Client
from tests.support import accounts, recordings
from tests.support.clock import ask, findings
from tests.support.cluster import Cluster
from tests.support.pgbouncer import PgBouncer, pgbouncer
from tests.support.roles import WithRoles, with_roles

pytestmark = pytest.mark.acceptance

CALLERS = 12
#: Of each caller.
POSTS, READS = 2, 20
POOLED = ConnectionOptions(database_pooler=TRANSACTION_POOLER)


@pytest.fixture
def pooler(postgres_url: str) -> Iterator[PgBouncer]:
    """A PgBouncer with two connections for each database and user."""
    with pgbouncer(postgres_url) as started:
        yield started


@pytest.fixture
def roles(database_url: str) -> Iterator[WithRoles]:
    """The three roles in a database of this test's own."""
    with with_roles(database_url) as made:
        yield made


# A few recordings a second on an idle machine.
@pytest.mark.timeout(900)
def test_twelve_callers_over_two_connections(
    rabbit_settings: Settings, pooler: PgBouncer, roles: WithRoles, tmp_path: Path
) -> None:
    settings = replace(
        rabbit_settings,
        database_url=pooler.url(roles.app_url),
        database_pooler=TRANSACTION_POOLER,
        rate_limit_per_s=0.0,
        # Twelve posts may wait for two connections on a busy machine.
        lease_s=30.0,
    )
    files = [
        recordings.write(tmp_path / f"{index}.flac", recordings.encode(recordings.demo(index)))
        for index in range(POSTS)
    ]
    with Cluster(settings, tmp_path) as cluster, cluster.api() as admin:
        worker = cluster.worker()

        def call(_number: int) -> list[str]:
            client = Client(admin.url, key=accounts.KEY)
            posted = [client.upload(file) for file in files]
            for index in range(READS):
                client.session(posted[index % POSTS].id)
            states = [client.wait(session).state for session in posted]
            assert all(client.detections(session.id) for session in posted)
            client.close()
            return states

        with ThreadPoolExecutor(CALLERS) as pool:
            states = [state for each in pool.map(call, range(CALLERS)) for state in each]
        assert states == ["completed"] * CALLERS * POSTS
        servers = [row for row in pooler.ask("SHOW SERVERS") if row["user"] == roles.app]
        assert 0 < len(servers) <= 2
        names = {row["application_name"] for row in pooler.ask("SHOW CLIENTS")}
        assert {"clamor-api", "clamor-worker"} <= names
        assert worker.stop(timeout_s=40) == 0
        logs = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    # The roles have the timeouts, so no process sets its own.
    assert "role_without_timeouts" not in logs
    for trouble in ("database_away", "request_failed", "run_failed", "lease_not_renewed"):
        assert trouble not in logs
    with psycopg.connect(roles.owner_url) as connection:
        found = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE state = 'completed') FROM audio_sessions"
        ).fetchone()
    assert found is not None
    assert found == (CALLERS * POSTS, CALLERS * POSTS)


@pytest.mark.parametrize("command", ["restore check", "schedule", "user list"])
def test_commands_of_operators_connect(
    rabbit_settings: Settings,
    pooler: PgBouncer,
    roles: WithRoles,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "DATABASE_URL": pooler.url(roles.app_url),
        "CLAMOR_DATABASE_POOLER": TRANSACTION_POOLER,
        "AMQP_URL": rabbit_settings.amqp_url,
        "BLOB_URL": rabbit_settings.blob_url,
    }.items():
        monkeypatch.setenv(name, value)
    assert cli.main(command.split()) == 0


def test_the_time_zone_of_a_summary_reaches_no_other_transaction(
    pooler: PgBouncer, roles: WithRoles
) -> None:
    store = Store(pooler.url(roles.app_url), pool_size=2, options=POOLED)
    wanted = DetectionFilter(owner=None)
    for name in ("CET", "Asia/Kathmandu"):
        with store.transaction() as tx, store.transaction() as other:
            detection_queries.sums(tx, wanted, by="day", time_zone=name)
            assert tx.execute(text("SHOW timezone")).scalar_one() == name
            assert other.execute(text("SHOW timezone")).scalar_one() == "UTC"
        # On all connections of the pooler.
        with store.transaction() as tx, store.transaction() as other:
            for each in (tx, other):
                assert each.execute(text("SHOW timezone")).scalar_one() == "UTC"
                now = each.execute(text("SELECT now()")).scalar_one()
                assert now.utcoffset() == timedelta()
    store.close()


class Pid(NamedTuple):
    """A row of one column."""

    pid: int


class Slept(NamedTuple):
    """A row of one column."""

    slept: str


BACKEND = CompiledQuery(select(func.pg_backend_pid().label("pid")), Pid)
STUCK = CompiledQuery(select(literal_column("pg_sleep(60)::text").label("slept")), Slept)


def _stuck_in_transaction(store: Store) -> None:
    with store.transaction() as tx:
        tx.execute(text("SELECT pg_sleep(60)"))


def _stuck_in_reading(store: Store) -> None:
    with store.reading() as tx:
        tx.execute(text("SELECT pg_sleep(60)"))


USES: list[Callable[[Store], object]] = [
    _stuck_in_transaction,
    _stuck_in_reading,
    lambda store: store.ask(STUCK),
]


def test_a_stuck_statement_is_ended_by_the_timeout_of_the_role(
    pooler: PgBouncer, roles: WithRoles
) -> None:
    roles.set_for_app("statement_timeout", "200ms")
    # The timeout of the process is not sent: that of the role is in force.
    store = Store(pooler.url(roles.app_url), pool_size=2, options=POOLED)
    _assert_stuck_statements_end(store)
    store.close()


def test_a_stuck_statement_is_ended_where_the_role_has_no_timeout(
    pooler: PgBouncer, roles: WithRoles
) -> None:
    roles.reset_for_app()
    options = replace(POOLED, statement_timeout_s=0.2)
    store = Store(pooler.url(roles.app_url), pool_size=2, options=options)
    with capture_logs() as logs:
        _assert_stuck_statements_end(store)
    assert [entry["remedy"] for entry in logs if entry["event"] == "role_without_timeouts"]
    with store.transaction() as tx:
        tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        assert tx.execute(text("SHOW transaction_isolation")).scalar_one() == "repeatable read"
        assert tx.execute(text("SHOW statement_timeout")).scalar_one() == "200ms"
        assert tx.execute(text("SHOW timezone")).scalar_one() == "UTC"
    with store.transaction() as tx:
        assert tx.execute(text("SHOW transaction_isolation")).scalar_one() == "read committed"
        assert tx.execute(text("SHOW statement_timeout")).scalar_one() == "200ms"
    # They end with their transaction: the session serves others too.
    with psycopg.connect(pooler.url(roles.app_url), prepare_threshold=None) as other:
        assert other.execute("SHOW statement_timeout").fetchone() == ("0",)
    store.close()


def _assert_stuck_statements_end(store: Store) -> None:
    for use in USES:
        with pytest.raises(sqlalchemy.exc.OperationalError) as failure:
            use(store)
        assert isinstance(failure.value.orig, psycopg.errors.QueryCanceled)
        assert is_temporary(failure.value)
        assert store.ask(BACKEND) is not None


#: Statements, with those of the transaction itself, where the role has the timeouts and where each
#: transaction sets them.
COSTS = {"transaction": (3, 4), "reading": (1, 4), "ask": (1, 4)}


@pytest.mark.parametrize("role_has_timeouts", [True, False])
def test_what_the_timeouts_cost(
    pooler: PgBouncer, roles: WithRoles, role_has_timeouts: bool
) -> None:
    if not role_has_timeouts:
        roles.reset_for_app()
    store = Store(pooler.url(roles.app_url), pool_size=1, options=POOLED)

    def transaction() -> None:
        with store.transaction() as tx:
            tx.execute(text("SELECT 1"))

    def reading() -> None:
        with store.reading() as tx:
            tx.execute(text("SELECT 1"))

    uses: dict[str, Callable[[], object]] = {
        "transaction": transaction,
        "reading": reading,
        "ask": lambda: store.ask(BACKEND),
    }
    transaction()
    for name, use in uses.items():
        before = pooler.statements(roles.app_url)
        for _ in range(10):
            use()
        cost = (pooler.statements(roles.app_url) - before) / 10
        assert cost == COSTS[name][0 if role_has_timeouts else 1], name
    store.close()


def test_a_statement_may_run_in_another_session_each_time(
    pooler: PgBouncer, roles: WithRoles
) -> None:
    """Prepared statements would be unknown there, after some runs of the same one."""
    stores = [Store(pooler.url(roles.app_url), pool_size=2, options=POOLED) for _ in range(6)]

    def work(store: Store) -> set[int]:
        seen = set()
        for _ in range(30):
            found = store.ask(BACKEND)
            assert found is not None
            seen.add(found.pid)
            with store.transaction() as tx:
                tx.execute(text("SELECT pg_advisory_xact_lock(1, 2)"))
                seen.add(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
        return seen

    with ThreadPoolExecutor(len(stores)) as pool:
        seen = list(pool.map(work, stores))
    assert max(map(len, seen)) == 2
    assert len(set().union(*seen)) == 2
    with psycopg.connect(roles.owner_url) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        ).fetchone()
    assert left == (0,)
    for store in stores:
        store.close()


def test_the_errors_of_the_pooler_may_pass(postgres_url: str, roles: WithRoles) -> None:
    """Of a transaction that waits too long, of too many clients, and of one that was cut off."""
    limits = "query_wait_timeout = 1\nmax_client_conn = 3"
    with pgbouncer(postgres_url, pool_size=1, options=limits) as pooler:
        url = pooler.url(roles.app_url)
        store = Store(url, pool_size=4, options=replace(POOLED, connect_timeout_s=5))
        with store.engine.connect() as holder:
            holder.execute(text("SELECT 1"))
            with pytest.raises(sqlalchemy.exc.DBAPIError) as waited:
                store.ask(BACKEND)
            clients = [psycopg.connect(url) for _ in range(2)]
            with pytest.raises(psycopg.OperationalError) as refused:
                psycopg.connect(url)
            for client in clients:
                client.close()
            pooler.stop()
            with pytest.raises(sqlalchemy.exc.DBAPIError) as cut:
                holder.execute(text("SELECT 1"))
        for error in (waited.value, refused.value, cut.value):
            assert is_temporary(error), error
        assert "query_wait_timeout" in str(waited.value)
        store.close()


def test_a_pooler_without_the_setting_is_refused_at_once(
    pooler: PgBouncer, roles: WithRoles
) -> None:
    store = Store(pooler.url(roles.app_url), pool_size=1)
    with pytest.raises(sqlalchemy.exc.OperationalError, match="unsupported startup parameter"):
        store.ask(BACKEND)
    store.close()


def test_tables_are_vacuumed_table_by_table(
    memory_settings: Settings, pooler: PgBouncer, roles: WithRoles
) -> None:
    """The owner has no timeouts, so transactions set them; VACUUM, which is none, has no limit."""
    settings = replace(
        memory_settings,
        database_url=pooler.url(roles.owner_url),
        database_pooler=TRANSACTION_POOLER,
    )
    runtime = Runtime(settings, broker.setup(settings))
    try:
        for _ in range(2):
            run = ask(runtime, VacuumDatabase())
            assert run.state == "completed", run.problem
            assert {"audio_sessions", "users"} <= set(findings(run)["tables"])
    finally:
        runtime.close()
