"""A store belongs to the process that created it: sharing connections gives wrong rows."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from db.settings import Settings
from db.store import ForkedStore, Store
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.integration


def in_a_fork(work: Callable[[], None]) -> int:
    """Run a function in a forked process; return its exit code, 0 unless it raised."""
    pid = os.fork()
    if pid:
        _pid, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)
    try:
        work()
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ask(store: Store, value: int) -> int:
    with store.transaction() as tx:
        return int(tx.execute(text("SELECT :value"), {"value": value}).scalar_one())


def test_a_store_that_was_made_before_a_fork_is_refused_in_the_child(store: Store) -> None:
    assert ask(store, 1) == 1

    def child() -> None:
        with pytest.raises(ForkedStore, match="before the fork"):
            ask(store, 2)
        with pytest.raises(ForkedStore):
            store.engine.connect()

    assert in_a_fork(child) == 0
    assert ask(store, 3) == 3


def test_a_child_that_closes_its_copy_leaves_the_parents_connections_alone(store: Store) -> None:
    with store.transaction() as tx:
        backend = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
        assert in_a_fork(store.close) == 0
        # The same connection, in the same transaction.
        assert tx.execute(text("SELECT pg_backend_pid()")).scalar_one() == backend


def test_a_child_makes_a_store_of_its_own(store: Store, database_url: str) -> None:
    assert ask(store, 1) == 1

    def child() -> None:
        own = Store(database_url)
        assert [ask(own, value) for value in range(100)] == list(range(100))
        own.close()

    assert in_a_fork(child) == 0
    assert [ask(store, value) for value in range(100)] == list(range(100))


@pytest.mark.acceptance
def test_the_process_that_forks_the_workers_has_no_connection(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """Each worker process creates its own collaborators after the fork."""
    with Cluster(rabbit_settings, tmp_path) as cluster:
        master = psutil.Process(cluster.worker().popen.pid)

        def of_workers() -> list[psutil.Process] | None:
            return [child for child in master.children(recursive=True) if ports_of(child)]

        assert eventually(of_workers, what="a worker with a connection")
        assert not ports_of(master)


def ports_of(process: psutil.Process) -> list[int]:
    """Return the remote ports of a process's TCP connections."""
    return [each.raddr.port for each in process.net_connections("tcp") if each.raddr]
