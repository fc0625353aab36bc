"""A server that accepts connections and does not answer costs a bounded wait."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import literal_column, select, text

from db.connection_options import ConnectionOptions
from db.engine import ANSWER_GRACE_S
from db.silent_servers import PAUSE_S, ServerSilent
from db.store import CompiledQuery, Store
from db.temporary_errors import is_temporary
from tests.support.cluster import eventually
from tests.support.postgres_proxy import PostgresProxy, postgres_proxy

pytestmark = pytest.mark.integration

STATEMENT_TIMEOUT_S = 0.3
#: libpq's least.
CONNECT_TIMEOUT_S = 2.0
#: What a busy machine may add.
SLACK_S = 1.5


class One(NamedTuple):
    """A row of one column."""

    x: int


ONE = CompiledQuery(select(literal_column("1").label("x")), One)


def reads(store: Store) -> None:
    with store.reading() as tx:
        tx.execute(text("SELECT 1"))


def writes(store: Store) -> None:
    with store.transaction() as tx:
        tx.execute(text("SELECT 1"))


def asks(store: Store) -> None:
    store.ask(ONE)


@pytest.fixture
def proxy(database_url: str) -> Iterator[PostgresProxy]:
    with postgres_proxy(database_url) as made:
        yield made


def store_at(url: str, *, pool_size: int = 1) -> Store:
    options = ConnectionOptions(
        statement_timeout_s=STATEMENT_TIMEOUT_S, connect_timeout_s=CONNECT_TIMEOUT_S
    )
    return Store(url, pool_size=pool_size, options=options)


@pytest.fixture
def behind(proxy: PostgresProxy) -> Iterator[Store]:
    """A store that reaches its server through the proxy, with a connection in its pool."""
    made = store_at(proxy.url, pool_size=4)
    reads(made)
    yield made
    made.close()


def fails_in(use: Callable[[Store], None], store: Store) -> float:
    """Return how long it took until a use failed with an error that may pass by itself."""
    began = time.monotonic()
    with pytest.raises(sqlalchemy.exc.OperationalError) as failure:
        use(store)
    assert is_temporary(failure.value)
    return time.monotonic() - began


@pytest.mark.parametrize("use", [reads, writes, asks])
def test_a_server_that_falls_silent_is_left_in_time(
    proxy: PostgresProxy, behind: Store, use: Callable[[Store], None]
) -> None:
    proxy.fall_silent()
    assert fails_in(use, behind) < STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + SLACK_S
    # The others do not wait for it again.
    assert fails_in(use, behind) < PAUSE_S / 2
    proxy.mend()
    eventually(lambda: not_raised(use, behind), timeout_s=10, what="an answer")


def not_raised(use: Callable[[Store], None], store: Store) -> bool:
    try:
        use(store)
    except sqlalchemy.exc.OperationalError:
        return False
    return True


def test_a_commit_and_a_rollback_are_left_in_time(proxy: PostgresProxy, behind: Store) -> None:
    def commits(store: Store) -> None:
        with store.transaction() as tx:
            tx.execute(text("SELECT 1"))
            proxy.fall_silent()

    assert fails_in(commits, behind) < STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + SLACK_S
    proxy.mend()
    eventually(lambda: not_raised(reads, behind), timeout_s=10, what="an answer")

    def rolls_back(store: Store) -> None:
        with store.transaction() as tx:
            tx.execute(text("SELECT 1"))
            proxy.fall_silent()
            raise ZeroDivisionError

    assert fails_in(rolls_back, behind) < STATEMENT_TIMEOUT_S + ANSWER_GRACE_S + SLACK_S


def test_callers_share_one_attempt_to_connect(proxy: PostgresProxy, behind: Store) -> None:
    proxy.fall_silent()
    fails_in(reads, behind)
    time.sleep(PAUSE_S)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        waits = list(threads.map(lambda _: fails_in(reads, behind), range(8)))
    assert max(waits) < CONNECT_TIMEOUT_S + SLACK_S
    assert time.monotonic() - began < CONNECT_TIMEOUT_S + SLACK_S


def test_a_connection_that_never_completes_is_given_up() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # The queue of connections that nobody accepts is full: the kernel drops further ones.
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        store = store_at(f"postgresql://127.0.0.1:{listener.getsockname()[1]}/none")
        assert fails_in(reads, store) < CONNECT_TIMEOUT_S + SLACK_S
        assert fails_in(reads, store) < PAUSE_S / 2
        store.close()


def test_a_resolver_that_blocks_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    unblocked, closed = threading.Event(), threading.Event()

    class Late:
        def close(self) -> None:
            closed.set()

    def connect(*_arguments: object, **_named: object) -> Late:
        # As in the C library, before the driver's own timeout begins.
        unblocked.wait()
        return Late()

    monkeypatch.setattr(psycopg.Connection, "connect", connect)
    store = store_at("postgresql://database.invalid/none")
    assert fails_in(reads, store) < CONNECT_TIMEOUT_S + ANSWER_GRACE_S + SLACK_S
    assert fails_in(reads, store) < PAUSE_S / 2
    # A connection that nobody waits for any more is closed.
    unblocked.set()
    assert closed.wait(10)
    store.close()


def test_a_slow_statement_that_the_server_ends_is_no_silence(behind: Store) -> None:
    with pytest.raises(sqlalchemy.exc.OperationalError) as failure, behind.reading() as tx:
        tx.execute(text("SELECT pg_sleep(60)"))
    assert not isinstance(failure.value.orig, ServerSilent)
    reads(behind)
