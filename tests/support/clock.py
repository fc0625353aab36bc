"""Periodic jobs in this process, asked for by somebody."""

from __future__ import annotations

from typing import Any

from actors.messages import Nudge
from actors.runtime import Runtime
from db import clock_queries, queries
from db.clock_models import JobRun
from tests.support.pipeline import handle


def ask(runtime: Runtime, nudge: Nudge, **options: Any) -> JobRun:
    """Ask for a run of a job, and let it be done; how it ended."""
    with runtime.store.transaction() as db:
        run_id = clock_queries.add_run(
            db, nudge.actor, queries.clock(db), source="person", options=options
        )
    assert run_id is not None
    # The slot of the schedule, if it was not filled yet, comes before.
    for _ in range(2):
        handle(runtime, nudge)
    with runtime.store.transaction() as db:
        row = clock_queries.get_run(db, run_id)
    assert row is not None
    return row
