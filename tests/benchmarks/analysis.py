"""Time the analysis of a long session: ``python -m tests.benchmarks.analysis``.

A session of 24 hours with 100,000 events is written to a private database, with the levels of a day
in the blob store, and analysed by the actor. Prints the medians of several runs: the time from the
message to the commit, and the CPU time of the worker, which is more reliable on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
from sqlalchemy import func, insert, text

from actors.analytics.analyze import analyze_session_data
from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import AnalyzeSession
from actors.science.levels.levels import LevelHistory
from db import migrate
from db.queries import analysis_queries
from db.settings import Settings
from db.tables.detections import NoiseDetection
from db.tables.sessions import AudioSession
from tests.support import servers
from tests.support.pipeline import put_result

HOURS, N_EVENTS = 24, 100_000
RATE_HZ = 44_100
TYPES = ("dog_bark", "rain", "siren", "engine", "rooster", "helicopter", "chainsaw", "crow")
LIMITS_DB = {"LAeq": [55.0, 65.0], "LAFmax": [80.0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with (
        servers.postgres() as server_url,
        servers.database(server_url) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        migrate.upgrade(url)
        settings = Settings(
            database_url=url, amqp_url="memory://", blob_url=Path(folder).as_uri(), lease_s=30.0
        )
        runtime = Runtime(settings, broker.setup(settings))
        session_id = _session(runtime)
        took_s: list[float] = []
        worked_s: list[float] = []
        for _ in range(options.runs):
            with runtime.store.transaction() as tx:
                analysis_queries.ask_analysis(
                    tx, session_id, asking_id=uuid.uuid4(), limits_db=LIMITS_DB, traceparent=None
                )
            began_s, worked_from_s = time.perf_counter(), time.process_time()
            analyze_session_data(runtime, AnalyzeSession(session_id=session_id))
            took_s.append(time.perf_counter() - began_s)
            worked_s.append(time.process_time() - worked_from_s)
        with runtime.store.transaction() as tx:
            n_bytes = tx.scalars(text("SELECT length(result::text) FROM analyses")).one()
        runtime.close()
    print(
        f"{N_EVENTS:,} events in {HOURS} h: {statistics.median(took_s):.2f} s "
        f"({min(took_s):.2f} to {max(took_s):.2f}), "
        f"{statistics.median(worked_s):.2f} s of CPU time; {n_bytes / 1e3:.0f} kB of JSON"
    )
    return 0


def _session(runtime: Runtime) -> uuid.UUID:
    """Add a finished session with its events and levels; return its ID."""
    rng = np.random.default_rng(7)
    duration_s = HOURS * 3_600
    session_id = uuid.uuid4()
    mean_square = (10 ** rng.uniform(-7, -3, duration_s * 100)).astype(np.float32)
    levels = LevelHistory(RATE_HZ, duration_s * RATE_HZ, mean_square, 2 * mean_square)
    runtime.blobs.put("levels", levels.to_bytes())
    starts = np.sort(rng.uniform(0, duration_s - 20, N_EVENTS))
    lengths = rng.uniform(0.3, 10, N_EVENTS)
    events = [
        {
            "session_id": session_id,
            "event_index": index,
            "start_s": float(starts[index]),
            "end_s": float(starts[index] + lengths[index]),
            "noise_type": TYPES[int(rng.integers(len(TYPES)))],
            "confidence": float(rng.uniform()),
            "laeq_db": float(rng.uniform(40, 80)),
            "lafmax_db": float(rng.uniform(50, 90)),
            "candidates": [],
        }
        for index in range(N_EVENTS)
    ]
    with runtime.store.transaction() as tx:
        tx.add(
            AudioSession(
                id=session_id,
                state="completed",
                file_name="day.flac",
                recording_key="day",
                size_bytes=1,
                levels_key="levels",
                calibration_db=100.0,
            )
        )
        tx.flush()
        put_result(
            tx,
            session_id,
            outcome="completed",
            finished_at=func.now(),
            duration_s=float(duration_s),
        )
        tx.flush()
        tx.execute(insert(NoiseDetection), events)
    with runtime.store.transaction() as tx:
        tx.execute(text("ANALYZE noise_detections"))
    return session_id


if __name__ == "__main__":
    sys.exit(main())
