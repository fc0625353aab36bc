"""Measure memory and time of an export of very many events: `make bench-exports`.

The database generates sessions with a million events. For each format, a separate process that has
loaded everything a worker loads and has written one small export exports them. The memory figure is
its peak beyond its memory at rest. The benchmark uses a private database.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from db import migrate
from db.connection_options import ConnectionOptions
from db.engine import make_engine
from db.tables.exports import Export, StoredSelection
from tests.support import accounts, servers

#: One session has this share of all events, the others have few.
LARGE_SHARE = 0.2
FEW = 100
FORMATS = ("parquet", "csv", "ndjson", "audacity", "dcase")

_SESSIONS = text("""
    WITH added AS (
        INSERT INTO audio_sessions
            (id, user_id, file_name, recording_key, size_bytes, state, created_at, rate_hz)
        SELECT gen_random_uuid(), :user, 'street-' || n || '.wav', 'none', 1, 'completed',
               now() - n * interval '1 min', 48000
        FROM generate_series(0, :n_sessions) n RETURNING id, user_id, created_at, state)
    INSERT INTO session_results (session_id, user_id, created_at, outcome, finished_at)
    SELECT id, user_id, created_at, state, now() FROM added
""")
_EVENTS = text("""
    INSERT INTO noise_detections
        (session_id, event_index, start_s, end_s, noise_type, confidence, laeq_db, lafmax_db)
    SELECT id, n, n * 0.7, n * 0.7 + 0.5, (ARRAY['rain', 'dog_bark', 'siren_sweep'])[1 + n % 3],
           random(), -60 + 40 * random(), -50 + 40 * random()
    FROM audio_sessions, generate_series(0,
        CASE file_name WHEN 'street-0.wav' THEN :n_large ELSE :n_few END - 1) n
""")


def fill(url: str, *, n_events: int) -> None:
    """Add sessions with ``n_events`` events in total."""
    n_large = int(n_events * LARGE_SHARE)
    engine = make_engine(url, ConnectionOptions(statement_timeout_s=600))
    with engine.begin() as connection:
        connection.execute(
            _SESSIONS, {"user": accounts.TEAM, "n_sessions": (n_events - n_large) // FEW}
        )
        connection.execute(_EVENTS, {"n_large": n_large, "n_few": FEW})
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def measured(url: str, folder: Path, name: str) -> dict[str, float]:
    """Measure one export in a separate process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.exports", "--one", name, url, str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _one(name: str, url: str, folder: str) -> None:
    """Write one export, and print its measurements."""
    import threading
    import time

    import psutil

    from actors.analytics.export import export_session_data
    from actors.execution.runtime import Runtime
    from actors.messaging import broker
    from actors.messaging.messages import ExportSessionData
    from db.queries import export_queries, session_queries
    from db.settings import Settings

    settings = Settings(
        database_url=url,
        amqp_url="memory://",
        blob_url=Path(folder).as_uri(),
        key_pepper=accounts.PEPPER,
        secret_keys=accounts.SECRET_KEYS,
    )
    runtime = Runtime(settings, broker.setup(settings))
    process = psutil.Process()

    def run(format_name: str, selection: StoredSelection) -> Export:
        export_id = uuid.uuid4()
        with runtime.store.transaction() as tx:
            export_queries.add_export(
                tx,
                id=export_id,
                user_id=accounts.TEAM,
                format=format_name,
                selection=selection,
                expires_at=session_queries.clock(tx),
            )
        export_session_data(runtime, ExportSessionData(export_id=export_id))
        with runtime.store.transaction() as tx:
            row = export_queries.get_export(tx, export_id)
        assert row is not None
        assert row.state == "completed", row.problem
        return row

    run(name, {"noise_types": ["nothing"]})
    resting, peak, ended = process.memory_info().rss, 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    row = run(name, {})
    took_s = time.monotonic() - began
    ended.set()
    watcher.join()
    runtime.close()
    print(
        json.dumps(
            {
                "rows": row.rows_written,
                "size_bytes": row.size_bytes,
                "seconds": took_s,
                "resting_mb": resting / 1e6,
                "more_mb": (peak - resting) / 1e6,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-exports", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one(*options.one)
        return 0
    table = Table(title=f"an export of {options.events:,} events")
    for column in ("format", "events", "MB", "s", "resting MB", "MB above rest"):
        table.add_column(column, justify="right")
    with ExitStack() as stack:
        server_url = stack.enter_context(servers.postgres())
        url = stack.enter_context(servers.database(server_url))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        migrate.upgrade(url)
        accounts.add_first(url)
        fill(url, n_events=options.events)
        for name in FORMATS:
            found = measured(url, folder, name)
            table.add_row(
                name,
                f"{found['rows']:,.0f}",
                f"{found['size_bytes'] / 1e6:.1f}",
                f"{found['seconds']:.1f}",
                f"{found['resting_mb']:.0f}",
                f"{found['more_mb']:.0f}",
            )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
