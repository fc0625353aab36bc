"""The names of the processes in ``pg_stat_activity``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from db.migration import lock
from db.settings import Settings
from tests.support import servers
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance


def names(connection: psycopg.Connection[tuple[str]]) -> set[str]:
    found = connection.execute(
        "SELECT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return {name for (name,) in found}


def test_each_process_has_its_name(
    rabbit_settings: Settings, postgres_url: str, tmp_path: Path
) -> None:
    with servers.database(postgres_url) as url, psycopg.connect(url, autocommit=True) as connection:
        settings = replace(rabbit_settings, database_url=url)
        with Cluster(settings, tmp_path) as cluster:
            # Nothing is migrated while the lock is held.
            connection.execute("SELECT pg_advisory_lock(%s)", [lock.MIGRATION_LOCK])
            cluster.start("scheduler")
            cluster.start("migrate")
            waiting = {"clamor-scheduler", "clamor-migrate"}
            eventually(lambda: names(connection) == waiting, what=f"{waiting}")
            connection.execute("SELECT pg_advisory_unlock(%s)", [lock.MIGRATION_LOCK])
            with cluster.api():
                cluster.worker()
                running = {"clamor-api", "clamor-worker"}
                eventually(lambda: names(connection) == running, what=f"{running}")
