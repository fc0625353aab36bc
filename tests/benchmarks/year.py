"""A year of sessions, as Clamor would have written them, for benchmarks and inspection.

Several users in several time zones record more by day than by night. Their recordings vary in
length, have or lack a calibration, and some were sent days late. Levels, summaries and spans come
from the code that computes them for real recordings. Rows are written with ``COPY``; foreign keys
and secondary indexes are re-created at the end, which also validates every row. The same plan gives
the same rows.

Blobs are written only for sessions that need them: see :func:`write_blobs`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg

from actors.science.detection import classifier
from actors.science.levels.levels import STEPS_PER_S, LevelHistory
from db.blobs.blob_store import Blobs
from db.queries import model_queries
from db.store import Store
from db.tables.sessions import NORMAL
from tests.benchmarks.year_plan import (
    BATCH_SESSIONS,
    CALLERS,
    RATE_HZ,
    Plan,
    Recording,
    generator,
    plan_recordings,
)
from tests.benchmarks.year_rows import COLUMNS, Writer, copying
from tests.support import accounts, partitions

#: Number of sessions whose rows are generated at once.
PAGE_SESSIONS = 500
Tell = Callable[[float, str], None]


def fill(url: str, plan: Plan, *, tell: Tell = lambda _share, _what: None) -> None:
    """Fill a migrated database that has the tests' users (``accounts.add_first``).

    ``tell`` is called with the share that is done and the current stage.
    """
    # Its first recordings may be a little older.
    partitions.add_since(url, plan.begin - timedelta(days=28))
    rng = generator(plan)
    model = classifier.shipped()
    _add_callers_and_model(url, model)
    recordings = plan_recordings(plan, rng)
    with (
        psycopg.connect(url, autocommit=True) as connection,
        _indexes_at_the_end(connection, tell=tell),
    ):
        _copy_batches(connection, recordings)
        writer = Writer(connection, plan, rng, model)
        for first in range(0, len(recordings), PAGE_SESSIONS):
            tell(0.6 * first / len(recordings), "sessions and detections")
            writer.write(recordings[first : first + PAGE_SESSIONS])
        connection.execute(_USAGE)
        connection.execute(_UNFINISHED)
        connection.execute(_LEFTOVERS, (plan.until - TIDIED_AFTER,))
    with psycopg.connect(url, autocommit=True) as connection:
        tell(0.95, "vacuum")
        connection.execute("VACUUM (ANALYZE)")
    tell(1.0, "done")


def _add_callers_and_model(url: str, model: classifier.Classifier) -> None:
    store = Store(url, pool_size=1)
    with store.transaction() as tx:
        for caller in CALLERS[1:]:
            accounts.add_user(tx, caller.id, f"{caller.zone.lower().replace('/', '.')}@example.org")
        model_queries.register_model(
            tx,
            blob_key=f"models/{model.sha256}",
            name=str(model.header["name"]),
            version=str(model.header["version"]),
            sha256=model.sha256,
            header=dict(model.header),
            is_shipped=True,
        )
    store.close()


_UNFINISHED = """
    INSERT INTO unfinished_sessions
        (session_id, batch_id, state, priority, lane, created_at, started_at)
    SELECT id, batch_id, state, priority, user_id, created_at, started_at
    FROM audio_sessions WHERE state IN ('queued', 'splitting', 'detecting', 'aggregating')
"""
#: Time after which leftover blobs of a finished session are removed for good.
TIDIED_AFTER = timedelta(hours=2)
_LEFTOVERS = """
    INSERT INTO session_leftovers (session_id, finished_at)
    SELECT session_id, finished_at FROM session_results WHERE finished_at > %s
"""
#: The monthly usage that ``split`` counts per user.
_USAGE = """
    INSERT INTO usage_months (user_id, month, audio_s, sessions)
    SELECT user_id, date_trunc('month', created_at AT TIME ZONE 'UTC'), sum(duration_s), count(*)
    FROM session_results WHERE duration_s IS NOT NULL GROUP BY 1, 2
"""


def _copy_batches(connection: psycopg.Connection[Any], recordings: Sequence[Recording]) -> None:
    by_batch: dict[uuid.UUID, Recording] = {}
    for recording in recordings:
        if recording.batch_id:
            by_batch.setdefault(recording.batch_id, recording)
    names = (
        "id",
        "state",
        "user_id",
        "priority",
        "options",
        "items_total",
        "next_item",
        "created_at",
        "finished_at",
    )
    with copying(connection, "batches", names) as copy:
        for batch_id, first in by_batch.items():
            copy.write_row(
                (
                    batch_id,
                    "taken",
                    first.caller.id,
                    NORMAL + 1,
                    "{}",
                    BATCH_SESSIONS,
                    BATCH_SESSIONS,
                    first.created_at,
                    first.created_at,
                )
            )


#: The tables that get many rows.
_LARGE = (*COLUMNS, "noise_detections")
_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::regclass[])
"""
_INDEXES = """
    SELECT relname, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = ANY (%s::regclass[])
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""


@contextmanager
def _indexes_at_the_end(connection: psycopg.Connection[Any], *, tell: Tell) -> Iterator[None]:
    """Drop foreign keys and secondary indexes, and re-create them at the end for all rows."""
    tables = [list(_LARGE)]
    foreign_keys = connection.execute(_FOREIGN_KEYS, tables).fetchall()
    indexes = connection.execute(_INDEXES, tables).fetchall()
    for table, name, _ in foreign_keys:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield
    connection.execute("SET maintenance_work_mem = '256MB'")
    for index, (_, definition) in enumerate(indexes):
        tell(0.6 + 0.3 * index / len(indexes), "indexes")
        # Postgres writes ONLY for a partitioned table, which would leave out the partitions.
        connection.execute(definition.replace(" ON ONLY ", " ON "))
    tell(0.9, "foreign keys")
    for table, name, definition in foreign_keys:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def write_blobs(blobs: Blobs, rows: Sequence[Any]) -> None:
    """Write the blobs of sessions (rows of ``audio_sessions``): a recording that is not audio, and
    levels with the length and loudness of the row.
    """
    for row in rows:
        blobs.put(row.recording_key, b"a recording")
        if row.levels_key:
            n_frames = round(row.duration_s * RATE_HZ)
            n_steps = -(-n_frames * STEPS_PER_S // RATE_HZ)
            mean_square = np.full(n_steps, row.totals["a_mean_square"], dtype=np.float32)
            series = LevelHistory(RATE_HZ, n_frames, mean_square, 2 * mean_square)
            blobs.put(row.levels_key, series.to_bytes())
