"""Measure what an hour of audio costs Postgres: bytes, statements, transaction IDs and WAL.

    .venv/bin/python -m tests.benchmarks.footprint --hours 2 --minutes 3

Posts recordings to the API and processes them by a worker, both in this process, over a private
Postgres and the in-memory broker. The server logs every statement, and the log is counted: BEGIN
and COMMIT are included. Prints a table in Markdown per hour of audio. The figures of docs/dba.md
are from here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dramatiq
import psycopg

from actors import worker
from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.observability.logs import configure
from db import migrate
from db.settings import Settings
from tests.support import accounts, recordings, servers
from tests.support.api import client_of

#: Seconds between two looks at the unfinished sessions. These statements are not counted.
LOOK_S = 2.0
#: What the server writes before each statement that it runs.
LOGGED = ("LOG:  statement: ", "LOG:  execute ")
#: The statements of this module are marked, and not counted.
OURS = "/* footprint */"

#: Bytes and rows of each table, and of each index. Pages are counted, so few rows look larger.
SIZES = """
    SELECT /* footprint */ relname, n_live_tup AS n_rows, pg_table_size(relid) AS table_bytes,
           pg_indexes_size(relid) AS index_bytes, n_tup_ins, n_tup_upd, n_tup_hot_upd
    FROM pg_stat_user_tables WHERE n_tup_ins > 0 ORDER BY pg_total_relation_size(relid) DESC
"""
#: The share of updates that write to no index.
HOT = """
    SELECT /* footprint */ sum(n_tup_hot_upd) / sum(n_tup_upd)::float FROM pg_stat_user_tables
"""
INDEXES = """
    SELECT /* footprint */ relname, indexrelname, pg_relation_size(indexrelid)
    FROM pg_stat_user_indexes ORDER BY 3 DESC LIMIT 15
"""
#: Transactions that write take an ID; those that only read do not.
XIDS = "SELECT /* footprint */ pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
UNFINISHED = "SELECT /* footprint */ count(*) FROM unfinished_sessions"
EVENTS = "SELECT /* footprint */ count(*) FROM noise_detections"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0, help="hours of audio in all")
    parser.add_argument("--minutes", type=float, default=3.0, help="length of each recording")
    args = parser.parse_args()
    n_recordings = round(args.hours * 60 / args.minutes)
    content = recordings.encode(recordings.long(args.minutes))
    with (
        servers.private_postgres() as server,
        servers.database(server.url) as url,
        tempfile.TemporaryDirectory(prefix="clamor-footprint-") as folder,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        migrate.upgrade(url)
        accounts.add_first(url)
        settings = Settings(
            database_url=url,
            amqp_url="memory://",
            blob_url=Path(folder).as_uri(),
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
            rate_limit_per_s=1e6,
            backbone_url="off",
            log_level="ERROR",
        )
        configure(settings.log_level)
        with working(settings) as runtime:
            # The first recording loads the model, and does not count.
            post(runtime, connection, content, times=1)
            before = cost(server, connection)
            post(runtime, connection, content, times=n_recordings)
            after = cost(server, connection)
        show(connection, after, before, hours=args.hours, n_recordings=n_recordings)
    return 0


@contextmanager
def working(settings: Settings) -> Iterator[Runtime]:
    """Yield a runtime whose work a worker in this process does."""
    memory = broker.setup(settings)
    runtime = Runtime(settings, memory)
    worker.declare(memory, runtime)
    consuming = dramatiq.Worker(memory, worker_threads=1, worker_timeout=50)
    consuming.start()
    try:
        yield runtime
    finally:
        consuming.stop()
        runtime.close()


def post(
    runtime: Runtime, connection: psycopg.Connection[Any], content: bytes, *, times: int
) -> None:
    """Post a recording some times, and wait until all sessions have ended."""
    api = client_of(runtime)
    for _ in range(times):
        headers = {"Content-Type": "audio/flac"}
        answer = api.simulate_post("/v1/sessions", body=content, headers=headers)
        assert answer.status_code == 202, answer.text
    while _one(connection, UNFINISHED):
        time.sleep(LOOK_S)


def cost(server: servers.PrivatePostgres, connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return the counters of the server, and the events in the database."""
    return counters(server, connection) | {"events": _one(connection, EVENTS)}


def counters(
    server: servers.PrivatePostgres, connection: psycopg.Connection[Any]
) -> dict[str, int]:
    """Return the counters of the server until now; statements are logged from the first call on."""
    connection.execute("ALTER SYSTEM SET log_statement = 'all'")
    connection.execute("SELECT pg_reload_conf(), pg_stat_force_next_flush()")
    (log,) = server.logs()
    lines = log.read_text("utf-8", "replace").splitlines()
    return {
        "statements": sum(_is_counted(line) for line in lines),
        "transaction IDs": _one(connection, XIDS),
        "bytes of WAL": int(_one(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'")),
    }


def show(
    connection: psycopg.Connection[Any],
    after: dict[str, int],
    before: dict[str, int],
    *,
    hours: float,
    n_recordings: int,
) -> None:
    """Print the figures."""
    print(f"{n_recordings} recordings, {hours:g} hours\n")
    for name, value in after.items():
        n = value - before[name]
        print(f"{name}: {n / hours:,.0f} per hour, {n / n_recordings:,.0f} per recording")
    connection.execute("VACUUM (ANALYZE)")
    print(f"HOT: {100 * _one(connection, HOT):.0f} % of all updates")
    print("\n| table | rows | table, index bytes | bytes per row | inserts, updates, HOT |")
    print("|---|---|---|---|---|")
    for name, n_rows, table, index, *changes in connection.execute(SIZES):
        per_row = (table + index) / max(n_rows, 1)
        print(f"| `{name}` | {n_rows} | {table}, {index} | {per_row:.0f} | {changes} |")
    print("\n| table | index | bytes |\n|---|---|---|")
    for name, index_name, size in connection.execute(INDEXES):
        print(f"| `{name}` | `{index_name}` | {size} |")


def _is_counted(line: str) -> bool:
    return any(word in line for word in LOGGED) and OURS not in line


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    sys.exit(main())
