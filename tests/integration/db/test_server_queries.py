"""The state of the server, as the owner and as the application's role see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from db import migrate
from db.queries import server_queries
from db.queries.server_queries import ServerState
from db.store import Store
from db.tables.base import Base
from tests.support import servers
from tests.support.cluster import eventually
from tests.support.planted import plant_invalid_index
from tests.support.roles import with_roles

pytestmark = pytest.mark.integration


def state(store: Store) -> ServerState:
    with store.reading() as tx:
        return server_queries.state(tx)


@contextmanager
def session(url: str, name: str, query: str = "SELECT 1") -> Iterator[psycopg.Connection[Any]]:
    """Open a transaction of a client of some name."""
    with psycopg.connect(url, application_name=name) as connection:
        connection.execute(query)
        yield connection
        connection.rollback()


def numbers(found: ServerState) -> dict[tuple[str, str], int]:
    return {(each.application, each.state): each.number for each in found.connections}


def test_a_server_at_rest(store: Store) -> None:
    found = state(store)
    assert found.oldest_transaction_s == 0
    assert 0 < found.xid_share < 0.5
    assert found.invalid_indexes == []
    assert set(Base.metadata.tables) <= set(found.dead_rows)
    assert found.live_rows.keys() == found.dead_rows.keys()
    # Our own connection is left out.
    assert numbers(found) == {}


def test_an_open_transaction_has_an_age_and_its_connection_a_name(
    store: Store, database_url: str
) -> None:
    with session(database_url, "clamor-worker"), session(database_url, "' OR 1=1 --"):
        started = time.monotonic()
        eventually(lambda: state(store).oldest_transaction_s > 0.2, what="the age")
        assert state(store).oldest_transaction_s <= time.monotonic() - started + 5
        # Names that clients choose would each be a series of Prometheus.
        assert numbers(state(store)) == {
            ("clamor-worker", "idle in transaction"): 1,
            ("other", "idle in transaction"): 1,
        }
    eventually(lambda: state(store).oldest_transaction_s == 0, what="the end")


def test_dead_rows_are_counted(store: Store, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE usage_months SET (autovacuum_enabled = off)")
        connection.execute(
            "INSERT INTO usage_months (user_id, month, audio_s, sessions)"
            " SELECT id, '2026-01-01', 1, 1 FROM users"
        )
        n = connection.execute("UPDATE usage_months SET audio_s = 2").rowcount
    assert n == 2
    found = eventually(
        lambda: found if (found := state(store)).dead_rows["usage_months"] else None,
        what="the statistics",
    )
    assert found.dead_rows["usage_months"] == n
    assert found.live_rows["usage_months"] == n


def test_an_invalid_index_is_named_unless_it_may_be_under_construction(
    store: Store, database_url: str
) -> None:
    plant_invalid_index(database_url)
    assert state(store).invalid_indexes == ["ix_planted"]
    lock = "LOCK TABLE users IN SHARE UPDATE EXCLUSIVE MODE"
    with session(database_url, "clamor-migrate", lock):
        assert state(store).invalid_indexes == []
    assert state(store).invalid_indexes == ["ix_planted"]


def test_it_waits_for_no_lock_of_a_table(store: Store, database_url: str) -> None:
    tables = ", ".join(Base.metadata.tables)
    lock = f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"
    with session(database_url, "clamor-migrate", lock), store.reading() as tx:
        tx.execute(text("SET lock_timeout = '100ms'"))
        assert numbers(server_queries.state(tx)) == {("clamor-migrate", "idle in transaction"): 1}
        tx.execute(text("RESET lock_timeout"))


@pytest.mark.parametrize("which", ["found", "embedded"])
def test_the_role_of_the_application_sees_all_but_the_transactions_of_others(which: str) -> None:
    with servers.database_of(which) as url, with_roles(url, schema="clamor") as roles:
        migrate.upgrade(roles.owner_url)
        store = Store(roles.app_url, pool_size=1)
        with session(roles.owner_url, "clamor-migrate"):
            eventually(
                lambda: numbers(state(store)) == {("clamor-migrate", "hidden"): 1},
                what="the connections of before to be gone",
            )
            found = state(store)
            assert found.oldest_transaction_s == 0
            with session(roles.app_url, "clamor-api"):
                eventually(lambda: state(store).oldest_transaction_s > 0, what="our transaction")
            # A privilege that an installation may grant, and that Clamor does not need.
            with psycopg.connect(url, autocommit=True) as superuser:
                superuser.execute(f"GRANT pg_read_all_stats TO {roles.app}")
            seen = state(store)
            assert seen.oldest_transaction_s > 0
            assert ("clamor-migrate", "idle in transaction") in numbers(seen)
        assert 0 < found.xid_share < 0.5
        assert set(Base.metadata.tables) <= set(found.dead_rows)
        plant_invalid_index(roles.owner_url)
        assert state(store).invalid_indexes == ["ix_planted"]
        store.close()
