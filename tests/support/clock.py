"""Periodic jobs in this process, run on request."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text, update

from actors.execution.runtime import Runtime
from actors.messaging.messages import CleanUp, Nudge
from actors.scheduling import jobs
from db.queries import job_run_queries, session_queries
from db.tables.job_runs import JobRun
from tests.support.pipeline import handle


def ask(runtime: Runtime, nudge: Nudge, **options: Any) -> JobRun:
    """Request a run of a job, and perform it; return its outcome."""
    job = jobs.job_named(nudge.actor)
    assert job is not None
    with runtime.store.transaction() as tx:
        now = session_queries.clock(tx)
        # Mark the slot of the schedule as done: it is not under test.
        slot_id = job_run_queries.add_run(tx, job.name, job.latest_slot(now), source="clock")
        if slot_id is not None:
            tx.execute(update(JobRun).where(JobRun.id == slot_id).values(state="completed"))
        run_id = job_run_queries.add_run(tx, job.name, now, source="person", options=options)
    assert run_id is not None
    handle(runtime, nudge)
    with runtime.store.transaction() as tx:
        row = job_run_queries.get_run(tx, run_id)
    assert row is not None
    return row


def findings(run: JobRun) -> dict[str, Any]:
    """Return the result of a run."""
    assert run.result is not None, run.problem
    return dict(run.result)


def pass_days(runtime: Runtime, days: float) -> None:
    """Age the marks of blobs by some days."""
    with runtime.store.transaction() as tx:
        tx.execute(
            text("UPDATE orphan_blobs SET marked_at = marked_at - make_interval(secs => :s)"),
            {"s": days * 86_400},
        )


def clean_up_twice(runtime: Runtime) -> dict[str, Any]:
    """Run ``clean_up`` to mark all blobs without a row, and again eight days later to remove them.

    Returns the result of the second run.
    """
    assert ask(runtime, CleanUp(), force=True).state == "completed"
    pass_days(runtime, 8)
    return findings(ask(runtime, CleanUp()))
