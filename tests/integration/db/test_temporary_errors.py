"""Errors of the database that may pass, each raised by a real Postgres."""

from __future__ import annotations

import select as polling
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import func, select, text

from actors.execution import failures
from actors.execution.runtime import Runtime
from db.connection_options import ConnectionOptions
from db.store import CompiledQuery, Store
from db.temporary_errors import TEMPORARY, is_temporary
from services.http.server_errors import InternalError, StoreUnavailable
from tests.support import servers
from tests.support.api import Api
from tests.support.cluster import eventually
from tests.support.roles import with_roles

pytestmark = pytest.mark.integration

AWAY = "the database is unavailable or did not respond in time"
REJECTED = "the database rejected a statement"


class Pid(NamedTuple):
    """A row of one column."""

    pid: int


BACKEND = CompiledQuery(select(func.pg_backend_pid().label("pid")), Pid)

#: Errors that come again however often the same is tried. Some are of the driver's class
#: OperationalError.
LASTING = {
    "0A000": "feature_not_supported",
    "21000": "cardinality_violation",
    "22012": "division_by_zero",
    "23505": "unique_violation",
    "25P02": "in_failed_sql_transaction",
    "26000": "invalid_sql_statement_name",
    "42501": "insufficient_privilege",
    "42P01": "undefined_table",
    "54000": "program_limit_exceeded",
    "55000": "object_not_in_prerequisite_state",
    "57P04": "database_dropped",
    "58P01": "undefined_file",
    "XX000": "internal_error",
}


def raised(store: Store, sqlstate: str) -> sqlalchemy.exc.DBAPIError:
    """Return the error that a statement of the store raises."""
    with pytest.raises(sqlalchemy.exc.DBAPIError) as failure, store.transaction() as tx:
        tx.execute(text(f"DO $$ BEGIN RAISE 'raised' USING ERRCODE = '{sqlstate}'; END $$"))
    assert getattr(failure.value.orig, "sqlstate", None) == sqlstate
    return failure.value


@pytest.mark.parametrize("sqlstate", [*TEMPORARY, *LASTING])
def test_each_sqlstate_is_judged_by_the_list(store: Store, sqlstate: str) -> None:
    error = raised(store, sqlstate)
    expected = sqlstate in TEMPORARY
    assert is_temporary(error) is expected
    # The driver's own error too, as COPY raises it.
    assert error.orig is not None
    assert is_temporary(error.orig) is expected
    reason = failures.judge(error).reason
    assert reason == failures.judge(error.orig).reason == (AWAY if expected else REJECTED)


@pytest.mark.parametrize(
    ("sqlstate", "status", "name"),
    [
        ("25006", 503, StoreUnavailable.name),
        ("57P03", 503, StoreUnavailable.name),
        ("54000", 500, InternalError.name),
        ("42P01", 500, InternalError.name),
    ],
)
def test_a_caller_is_asked_to_retry_only_what_may_pass(
    admin: Api,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    sqlstate: str,
    status: int,
    name: str,
) -> None:
    error = raised(runtime.store, sqlstate)

    def fail(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr("db.queries.account_queries.users", fail)
    got = admin.simulate_get("/v1/users")
    assert (got.status_code, got.json["type"]) == (status, f"/problems/{name}")
    assert ("retry-after" in got.headers) == (status == 503)


def failure_of(use: Callable[[], object], *sqlstates: str | None) -> BaseException:
    """Return what a use of the database raises, which may pass."""
    with pytest.raises((sqlalchemy.exc.SQLAlchemyError, psycopg.Error)) as failure:
        use()
    error = failure.value
    assert getattr(getattr(error, "orig", error), "sqlstate", None) in sqlstates
    assert is_temporary(error), error
    return error


def test_a_deadlock(store: Store) -> None:
    with store.transaction() as tx:
        tx.execute(text("CREATE TABLE both_ways (x int)"))
        tx.execute(text("INSERT INTO both_ways VALUES (1), (2)"))
    met, errors = threading.Barrier(2), []

    def lock(first: int, second: int) -> None:
        update = text("UPDATE both_ways SET x = x WHERE x = :x")
        try:
            with store.transaction() as tx:
                tx.execute(update, {"x": first})
                met.wait(30)
                tx.execute(update, {"x": second})
        except sqlalchemy.exc.DBAPIError as error:
            errors.append(error)

    other = threading.Thread(target=lock, args=(1, 2))
    other.start()
    lock(2, 1)
    other.join()
    [error] = errors
    assert isinstance(error.orig, psycopg.errors.DeadlockDetected)
    assert is_temporary(error)


def test_a_serialisation_failure(store: Store) -> None:
    with store.transaction() as tx:
        tx.execute(text("CREATE TABLE counter AS SELECT 1 AS x"))

    def update() -> None:
        with store.transaction() as tx:
            tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            tx.execute(text("SELECT * FROM counter"))
            with store.transaction() as other:
                other.execute(text("UPDATE counter SET x = 2"))
            tx.execute(text("UPDATE counter SET x = 3"))

    failure_of(update, "40001")


def test_a_lock_that_is_not_released(store: Store, database_url: str) -> None:
    hasty = Store(database_url, pool_size=1, options=ConnectionOptions(lock_timeout_s=0.05))

    def lock() -> None:
        with hasty.transaction() as tx:
            tx.execute(text("LOCK TABLE users"))

    with store.transaction() as holder:
        holder.execute(text("LOCK TABLE users"))
        failure_of(lock, "55P03")
    hasty.close()


def test_a_transaction_that_idles(database_url: str) -> None:
    options = ConnectionOptions(idle_in_transaction_timeout_s=0.05)
    own = Store(database_url, pool_size=1, options=options)

    def idle() -> None:
        with own.transaction() as tx:
            tx.execute(text("SELECT 1"))
            driver = tx.connection().connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            ended_by(driver)
            tx.execute(text("SELECT 1"))

    failure_of(idle, "25P03")
    assert own.ask(BACKEND)
    own.close()


def test_a_session_that_idles(store: Store) -> None:
    with store.engine.connect() as connection:
        connection.execute(text("SET idle_session_timeout = '50ms'"))
        connection.commit()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        ended_by(driver)
        failure_of(lambda: connection.execute(text("SELECT 1")), "57P05")


def ended_by(driver: psycopg.Connection[object]) -> None:
    """Wait until the server has sent that it ends the connection."""
    readable, _, _ = polling.select([driver.fileno()], [], [], 30)
    assert readable


def test_an_administrator_ends_a_connection(store: Store, database_url: str) -> None:
    own = Store(database_url, pool_size=1)
    with own.engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with store.transaction() as tx:
            tx.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        ended_by(driver)
        error = failure_of(lambda: connection.execute(text("SELECT 1")), "57P01")
    assert failures.judge(error).reason == AWAY
    assert own.ask(BACKEND)
    own.close()


def test_a_statement_that_needs_too_much_disk(store: Store) -> None:
    def sort() -> None:
        with store.transaction() as tx:
            tx.execute(text("SET LOCAL temp_file_limit = '64kB'"))
            tx.execute(text("SET LOCAL work_mem = '64kB'"))
            tx.execute(text("SELECT x FROM generate_series(1, 100000) x ORDER BY x DESC OFFSET 5"))

    failure_of(sort, "53400")


def test_a_standby_is_left_for_the_primary(database_url: str) -> None:
    """A connection to a server that is a standby since a failover still answers."""
    own = Store(database_url, pool_size=2)
    with own.engine.connect() as first, own.engine.connect() as second:
        pids = {
            each.execute(text("SELECT pg_backend_pid()")).scalar_one() for each in (first, second)
        }
        for each in (first, second):
            each.execute(text("SET default_transaction_read_only = on"))
            each.commit()

    def write() -> None:
        with own.transaction() as tx:
            tx.execute(text("UPDATE users SET name = name"))

    failure_of(write, "25006")
    # Neither of the two connections is used again.
    with own.engine.connect() as first, own.engine.connect() as second:
        for each in (first, second):
            assert each.execute(text("SELECT pg_backend_pid()")).scalar_one() not in pids
    write()
    own.close()


def test_too_many_connections(database_url: str) -> None:
    with with_roles(database_url) as roles, psycopg.connect(roles.url, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{roles.app}" CONNECTION LIMIT 1'.encode())
        with psycopg.connect(roles.app_url):
            own = Store(roles.app_url, pool_size=1)
            # The driver has no SQLSTATE for a connection that is refused.
            error = failure_of(lambda: own.ask(BACKEND), None)
            assert "too many connections" in str(error)
        # The server ends the session after its client has gone.
        eventually(lambda: answers(own), what="a free connection")
        own.close()


def answers(store: Store) -> bool:
    with suppress(sqlalchemy.exc.OperationalError):
        return store.ask(BACKEND) is not None
    return False


def test_no_connection_of_the_pool_is_free(database_url: str) -> None:
    own = Store(database_url, pool_size=1, options=ConnectionOptions(pool_timeout_s=0.05))
    with own.transaction() as tx:
        tx.execute(text("SELECT 1"))
        error = failure_of(lambda: own.ask(BACKEND), None)
    assert isinstance(error, sqlalchemy.exc.TimeoutError)
    own.close()


def test_a_server_that_crashes_and_is_away() -> None:
    try:
        with servers.private_postgres() as server:
            own = Store(server.url, pool_size=2)
            with own.engine.connect() as later, own.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                newer = connection.dialect.server_version_info >= (17,)  # type: ignore[operator]
                assert newer, "the embedded Postgres is newer"
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                later.execute(text("SET LOCAL transaction_timeout = '50ms'"))
                waiting = later.connection.driver_connection
                assert isinstance(waiting, psycopg.Connection)
                ended_by(waiting)
                failure_of(lambda: later.execute(text("SELECT 1")), "25P04")
                server.kill()
                ended_by(driver)
                # The last words of the server may be lost.
                failure_of(lambda: connection.execute(text("SELECT 1")), "57P02", None)
            failure_of(lambda: own.ask(BACKEND), None)
            server.start()
            eventually(lambda: answers(own), what="the server")
            own.close()
    except servers.ServerUnavailable as reason:
        servers.unavailable(reason)
