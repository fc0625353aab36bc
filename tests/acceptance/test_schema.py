"""Processes started before their schema exists, and after it has moved on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from actors.scheduling.jobs import JOBS
from db import migrate
from db.settings import Settings
from services.client import ApiError
from tests.support import servers
from tests.support.cluster import START_S, Cluster, Process, eventually

pytestmark = pytest.mark.acceptance


@pytest.fixture
def settings(rabbit_settings: Settings, postgres_url: str) -> Iterator[Settings]:
    """Settings with an empty database."""
    with servers.database(postgres_url) as url:
        yield replace(rabbit_settings, database_url=url)


def events(process: Process, name: str) -> list[dict[str, Any]]:
    """Return the lines of a process's log with a given event name."""
    lines = process.log.read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [line for line in told if line["event"] == name]


def waits(process: Process) -> bool:
    assert process.popen.poll() is None, process.log.read_text()
    return bool(events(process, "schema_awaited"))


def is_in(process: Process, word: str) -> bool:
    return word in process.log.read_text()


def test_worker_and_scheduler_wait_for_their_schema(settings: Settings, tmp_path: Path) -> None:
    with Cluster(settings, tmp_path) as cluster:
        worker, scheduler = cluster.start("worker"), cluster.start("scheduler")
        for process in (worker, scheduler):
            eventually(partial(waits, process), what=f"a wait; see {process.log}")
        assert not is_in(worker, "Worker process is ready")
        migrate.upgrade(settings.database_url)
        ready = partial(is_in, worker, "Worker process is ready")
        eventually(ready, timeout_s=START_S, what=f"the worker; see {worker.log}")
        listed = partial(is_in, scheduler, JOBS[-1].nudge.actor)
        eventually(listed, what=f"the scheduler; see {scheduler.log}")
        for process in (worker, scheduler):
            [began] = events(process, "schema_awaited")
            [ended] = events(process, "schema_ready")
            assert "run clamor migrate" in began["reason"]
            assert ended["waited_s"] > 0
        assert worker.stop() == 0


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_a_process_that_waits_stops_at_once(
    settings: Settings, tmp_path: Path, command: str
) -> None:
    with Cluster(settings, tmp_path) as cluster:
        process = cluster.start(command)
        eventually(partial(waits, process), what=f"a wait; see {process.log}")
        assert process.stop(timeout_s=30) == 0


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_a_process_does_not_wait_for_a_schema_that_no_migration_reaches(
    settings: Settings, tmp_path: Path, command: str
) -> None:
    migrate.upgrade(settings.database_url)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0039'")
    with Cluster(settings, tmp_path) as cluster:
        process = cluster.start(command)
        assert process.popen.wait(START_S) == 2
        last = process.log.read_text().splitlines()[-1]
        assert last.startswith("clamor: the database is at revision 0039, from before the first")
        assert events(process, "schema_awaited") == []


def test_a_release_goes_on_after_a_later_one_has_migrated(
    settings: Settings, tmp_path: Path
) -> None:
    migrate.upgrade(settings.database_url)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'b999'")
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        # A release that is rolled back comes with its migration, as in deploy/compose.yaml.
        cluster.run("migrate")
        worker = cluster.worker()
        assert client.ready()
        assert events(worker, "schema_awaited") == []
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            connection.execute("DELETE FROM alembic_version")
        with pytest.raises(ApiError, match="503"):
            client.ready()
