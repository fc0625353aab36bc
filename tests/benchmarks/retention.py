# ruff: noqa: S608  (the SQL is put together from constants of this file)
"""Measure what the removal of a month costs: row by row, and as a partition.

    .venv/bin/python -m tests.benchmarks.retention [--rows 1000000]

Two months of rows are removed down to one, over a private Postgres with default settings: by pages
of DELETE and a VACUUM from a table without partitions, as Clamor would otherwise do it, and by the
function that drops a partition. A writer adds rows meanwhile, one after the other. For detections,
which are not partitioned, the second part shows what a query by ID would cost with partitions.
Prints tables in Markdown; the figures of docs/dba.md are from here.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from db import migrate
from tests.support import accounts, partitions, servers

#: Rows of a session, of which a hundred are removed at a time, and rows of a page by age.
SESSION_ROWS, PAGE_SESSIONS, PAGE_ROWS = 100, 100, 1_000
#: How many months of detections there are, and how many of them are looked up.
MONTHS, LOOK_UPS = 12, 2_000
#: Time between two rows of the writer, whose WAL is in the figures.
PAUSE_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A table, and the same without partitions."""

    table: str
    time: str
    #: Its constraints and indexes without partitions.
    plain: str
    #: Columns and values of row ``n`` at a time ``at``.
    columns: str
    values: str
    #: Removes a page of rows from before a time; those of ``{plain}``.
    page: str


_BY_SESSION = """
    DELETE FROM {{plain}} WHERE session_id = ANY (ARRAY(
        SELECT DISTINCT session_id FROM (
            SELECT session_id FROM {{plain}} WHERE {time} < %s LIMIT {rows}
        ) AS page
    ))
"""
_SESSION = f"lpad(to_hex(n / {SESSION_ROWS}), 32, '0')::uuid"
REQUESTS = Kind(
    table="api_requests",
    time="received_at",
    plain="""
        ALTER TABLE {plain} ADD PRIMARY KEY (id);
        CREATE INDEX ON {plain} (received_at);
        CREATE INDEX ON {plain} (user_id, received_at);
    """,
    columns="request_id, method, route, status, duration_s, bytes_in, bytes_out, key_id, user_id,"
    " session_id, received_at",
    values="md5(n::text), 'GET', '/v1/sessions/{session_id}/detections', 200, 0.01, 0, 1400,"
    f" '9f31c60e5ab47d28', '{accounts.TEAM}'::uuid, gen_random_uuid(), at",
    page=f"""
        DELETE FROM {{plain}} WHERE id IN (
            SELECT id FROM {{plain}} WHERE received_at < %s ORDER BY received_at LIMIT {PAGE_ROWS}
        )
    """,
)
METRICS = Kind(
    table="processing_metrics",
    time="recorded_at",
    plain="""
        ALTER TABLE {plain} ADD PRIMARY KEY (id);
        CREATE INDEX ON {plain} (session_id);
        CREATE INDEX ON {plain} (recorded_at);
    """,
    columns="session_id, step, span_index, attempt, result, duration_s, recorded_at",
    values=f"{_SESSION}, 'detect', mod(n, {SESSION_ROWS}), 1, 'done', 0.2, at",
    page=_BY_SESSION.format(time="recorded_at", rows=PAGE_SESSIONS * SESSION_ROWS),
)
DETECTIONS = Kind(
    table="noise_detections",
    time="heard_at",
    plain="""
        ALTER TABLE {plain} ADD PRIMARY KEY (session_id, event_index);
        CREATE INDEX ON {plain} (noise_type, session_id, confidence);
        CREATE INDEX ON {plain} (heard_at, id);
        CREATE UNIQUE INDEX ON {plain} (id);
        CREATE INDEX ON {plain} (user_id, heard_at, id);
    """,
    columns="session_id, event_index, user_id, heard_at, start_s, end_s, noise_type, confidence,"
    " laeq_db, lafmax_db, candidates",
    values=f"{_SESSION}, mod(n, {SESSION_ROWS}), '{accounts.TEAM}'::uuid, at, n, n + 1, 'siren',"
    """ 0.8, 60, 65, '[{"noise_type": "siren", "confidence": 0.8}]'""",
    page=_BY_SESSION.format(time="heard_at", rows=PAGE_SESSIONS * SESSION_ROWS),
)
FILL = """
    INSERT INTO {into} ({columns})
    SELECT {values} FROM (
        SELECT n, timestamptz '{begin}' + n * interval '1 second' * {step_s} AS at
        FROM generate_series({first}, {last}) AS n
    ) AS row
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, prog="retention")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a month")
    n_rows = parser.parse_args().rows
    with servers.private_postgres() as server, servers.database(server.url) as url:
        migrate.upgrade(url)
        accounts.add_first(url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET timezone = 'UTC'")
            print(f"Postgres {connection.info.server_version // 10_000}; {n_rows:,} rows\n")
            print("| a month of | removed | seconds | WAL | returned | a writer waits at most |")
            print("|---|---|---|---|---|---|")
            for kind in (REQUESTS, METRICS, DETECTIONS):
                measure(connection, url, kind, n_rows)
            look_up(connection, n_rows)


def measure(connection: psycopg.Connection[Any], url: str, kind: Kind, n_rows: int) -> None:
    """Print the rows of a table: by DELETE, and as a partition where it has some."""
    now = datetime.now(UTC)
    this_month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    old_month = (last_month - timedelta(days=1)).replace(day=1)
    months = {old_month: last_month, last_month: this_month}
    plain = f"{kind.table}_plain"
    connection.execute(
        f"CREATE TABLE {plain} (LIKE {kind.table}"
        " INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING GENERATED)"
    )
    connection.execute(kind.plain.replace("{plain}", plain).encode())
    fill(connection, kind, plain, months, n_rows)

    def delete() -> None:
        page = kind.page.format(plain=plain)
        while connection.execute(page, [last_month]).rowcount:
            pass
        connection.execute(f"VACUUM {plain}")

    report(connection, url, kind, plain, "DELETE, VACUUM", delete)
    connection.execute(f"DROP TABLE {plain}")
    if kind is DETECTIONS:
        return
    partitions.add_since(url, old_month)
    fill(connection, kind, kind.table, months, n_rows)

    def drop() -> None:
        kept = now - last_month
        row = connection.execute("SELECT drop_partition(%s, %s)", [kind.table, kept]).fetchone()
        assert row == (f"{kind.table}_{old_month:%Y_%m}",)

    report(connection, url, kind, kind.table, "partition", drop)


def fill(
    connection: psycopg.Connection[Any],
    kind: Kind,
    into: str,
    months: dict[datetime, datetime],
    n_rows: int,
) -> None:
    """Fill months with rows, evenly."""
    for index, (begin, end) in enumerate(months.items()):
        first = index * n_rows
        step_s = (end - begin) / timedelta(seconds=1) / n_rows
        connection.execute(
            FILL.format(
                into=into,
                columns=kind.columns,
                values=kind.values,
                begin=begin - timedelta(seconds=first * step_s),
                step_s=step_s,
                first=first,
                last=first + n_rows - 1,
            ).encode()
        )
    connection.execute(f"VACUUM (ANALYZE) {into}")
    connection.execute("CHECKPOINT")


def report(
    connection: psycopg.Connection[Any],
    url: str,
    kind: Kind,
    table: str,
    how: str,
    remove: Callable[[], None],
) -> None:
    """Remove the older month, and print what it took."""
    wal_before, size_before = wal(connection), size(connection, table)
    with writing(url, kind, table) as waits_s:
        began_at = time.monotonic()
        remove()
        remove_s = time.monotonic() - began_at
    wal_bytes = wal(connection) - wal_before
    returned = size_before - size(connection, table)
    print(
        f"| `{kind.table}` | {how} | {remove_s:.2f} | {wal_bytes / 1e6:.1f} MB |"
        f" {max(returned, 0) / 1e6:.0f} MB | {max(waits_s) * 1e3:.0f} ms |",
        flush=True,
    )


@contextmanager
def writing(url: str, kind: Kind, table: str) -> Iterator[list[float]]:
    """Add a row every few milliseconds; yield the list of the times that it took."""
    waits_s: list[float] = []
    ended = threading.Event()
    row = f"SELECT {kind.values} FROM (SELECT %s::bigint AS n, now() AS at) AS row"
    insert = f"INSERT INTO {table} ({kind.columns}) {row}"

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for n in itertools.count(10**9):
                began_at = time.monotonic()
                connection.execute(insert, [n])
                waits_s.append(time.monotonic() - began_at)
                if ended.wait(PAUSE_S):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield waits_s
    finally:
        ended.set()
        writer.join()


def look_up(connection: psycopg.Connection[Any], n_rows: int) -> None:
    """Print the time of a query by ID, of detections in one table and in months."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    begins = [begin.replace(month=number) for number in range(1, MONTHS + 1)]
    ends = [*begins[1:], begin.replace(year=2027)]
    print("\n| detections | rows | by ID |\n|---|---|---|")
    for name, by_month in (("one table", False), (f"{MONTHS} partitions", True)):
        table = f"by_id_{by_month}".lower()
        like = f"CREATE TABLE {table} (LIKE noise_detections INCLUDING GENERATED)"
        connection.execute(like + (" PARTITION BY RANGE (heard_at)" if by_month else ""))
        for number, (first, last) in enumerate(zip(begins, ends, strict=True) if by_month else ()):
            connection.execute(
                f"CREATE TABLE {table}_{number} PARTITION OF {table}"
                f" FOR VALUES FROM ('{first}') TO ('{last}')"
            )
        # A unique index would have to contain the time.
        connection.execute(f"CREATE INDEX ON {table} (id)")
        of_month = n_rows // MONTHS
        fill(connection, DETECTIONS, table, dict(zip(begins, ends, strict=True)), of_month)
        ids = connection.execute(
            f"SELECT id FROM {table} TABLESAMPLE SYSTEM (1) LIMIT {LOOK_UPS}"
        ).fetchall()
        taken_s = []
        for values in ids:
            began_at = time.monotonic()
            connection.execute(f"SELECT * FROM {table} WHERE id = %s", values).fetchone()
            taken_s.append(time.monotonic() - began_at)
        print(f"| {name} | {MONTHS * of_month:,} | {statistics.median(taken_s) * 1e3:.2f} ms |")


def wal(connection: psycopg.Connection[Any]) -> int:
    """Return the bytes of WAL that the server has written so far."""
    return int(_one(connection, "SELECT pg_current_wal_insert_lsn() - '0/0'"))


def size(connection: psycopg.Connection[Any], table: str) -> int:
    """Return the bytes of a table with its partitions and indexes."""
    query = """
        WITH named AS (SELECT %s::regclass AS oid)
        SELECT sum(pg_total_relation_size(oid)) FROM (
            SELECT oid FROM named
            UNION ALL SELECT inhrelid FROM pg_inherits JOIN named ON inhparent = oid
        ) AS part
    """
    return int(_one(connection, query, table))


def _one(connection: psycopg.Connection[Any], query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values or None).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    main()
