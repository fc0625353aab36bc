"""Periodic jobs over a real database: one run a slot, one at a time, and none missed."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from actors.execution.failures import Permanent, judge
from actors.execution.runtime import Runtime
from actors.messaging import kinds
from actors.messaging.messages import CheckHealth
from actors.recovery import Recovery, take_stalled
from actors.scheduling import job_runs, jobs
from actors.scheduling.job_runs import ScheduledRun
from db.queries import job_run_queries, session_queries
from db.queries.queue_queries import Backlog
from db.queue import claims
from db.tables.job_runs import JobRun

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def no_clock() -> None:
    """Override the fixture: these tests need the periodic jobs."""


TICK = CheckHealth()
JOB = jobs.JOBS[0]


def rows(runtime: Runtime) -> list[JobRun]:
    with runtime.store.transaction() as tx:
        return list(tx.scalars(select(JobRun).where(JobRun.job == JOB.name).order_by(JobRun.slot)))


def now(runtime: Runtime) -> datetime:
    with runtime.store.transaction() as tx:
        return session_queries.clock(tx)


def ask(runtime: Runtime, *, slot: datetime | None = None, **options: Any) -> None:
    with runtime.store.transaction() as tx:
        assert job_run_queries.add_run(
            tx, JOB.name, slot or session_queries.clock(tx), source="person", options=options
        )


def doing(results: list[ScheduledRun]) -> Callable[[ScheduledRun], dict[str, Any]]:
    def perform(turn: ScheduledRun) -> dict[str, Any]:
        results.append(turn)
        return {"number": len(results)}

    return perform


def test_two_schedulers_do_no_harm(runtime: Runtime) -> None:
    done: list[ScheduledRun] = []
    for _ in range(3):
        job_runs.run(runtime, TICK, doing(done))
    assert len(done) == 1
    [row] = rows(runtime)
    assert (row.state, row.source, row.result) == ("completed", "clock", {"number": 1})
    assert row.slot == JOB.latest_slot(now(runtime))
    assert (row.percent, row.stage) == (100, "done")


def test_a_run_that_is_under_way_is_not_started_twice(runtime: Runtime) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_turn: ScheduledRun) -> dict[str, Any]:
        begun.set()
        assert go_on.wait(30)
        return {}

    worker = threading.Thread(target=job_runs.run, args=(runtime, TICK, slow))
    worker.start()
    try:
        assert begun.wait(30)
        ask(runtime)
        done: list[ScheduledRun] = []
        job_runs.run(runtime, TICK, doing(done))
        assert done == []
    finally:
        go_on.set()
        worker.join()
    job_runs.run(runtime, TICK, doing(done))
    assert [row.state for row in rows(runtime)] == ["completed", "completed"]
    assert len(done) == 1


def test_two_workers_at_once_begin_one_run(runtime: Runtime) -> None:
    done: list[ScheduledRun] = []
    ask(runtime)
    together = threading.Barrier(4)

    def tick() -> None:
        together.wait(30)
        job_runs.run(runtime, TICK, doing(done))

    workers = [threading.Thread(target=tick) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    states = [row.state for row in rows(runtime)]
    # Each run started once, in either worker; waiting ones may still wait for their turn.
    assert len(done) == states.count("completed")
    assert len(done) >= 1
    assert {row.attempt for row in rows(runtime)} == {0}


def test_a_run_waits_for_a_worker_only_while_none_is_active(runtime: Runtime) -> None:
    def backlog() -> Backlog:
        with runtime.store.transaction() as tx:
            return kinds.backlogs(tx)[CheckHealth.queue]

    ask(runtime)
    ask(runtime)
    assert (backlog().held, backlog().due, backlog().oldest_s is None) == (0, 2, False)
    with runtime.store.transaction() as tx:
        claim = job_run_queries.take_run(JOB.name, tx, lease_s=60)
    assert claim is not None
    assert backlog() == Backlog(held=1, oldest_s=None)
    with runtime.store.transaction() as tx:
        assert claims.advance(tx, claim.work, attempt=claim.attempt, to="completed", values={})
    assert (backlog().held, backlog().due, backlog().oldest_s is None) == (0, 1, False)


def test_a_slot_that_was_missed_is_filled_and_nudged(runtime: Runtime) -> None:
    recovery = Recovery(runtime)
    recovery.round()
    found = rows(runtime)
    assert [(row.source, row.state) for row in found] == [("steward", "pending")]
    with runtime.store.transaction() as tx:
        # A new installation has missed nothing; only the health check is due.
        assert take_stalled(tx, unnudged_s=0, limit=10) == [CheckHealth()]
        waits = {name for name, each in kinds.backlogs(tx).items() if each.oldest_s is not None}
        assert waits == {CheckHealth.queue}
    with runtime.store.transaction() as tx:
        latest = job_run_queries.latest_runs(tx, [job.name for job in jobs.JOBS])
    assert {job.name for job in jobs.JOBS} == set(latest)
    assert {name for name, run in latest.items() if run.state == "pending"} == {JOB.name}
    others = [run for name, run in latest.items() if name != JOB.name]
    assert {str(run.result) for run in others} == {"{'skipped': 'a new installation'}"}
    done: list[ScheduledRun] = []
    job_runs.run(runtime, TICK, doing(done))
    recovery.round()
    assert [(row.source, row.state) for row in rows(runtime)] == [("steward", "completed")]


def test_a_slot_is_not_filled_while_its_tick_may_come(runtime: Runtime) -> None:
    with runtime.store.transaction() as tx:
        job_runs.fill_missed(tx, late_s=2 * JOB.period.total_seconds())
    [row] = rows(runtime)
    assert row.slot == JOB.latest_slot(now(runtime)) - 2 * JOB.period
    with runtime.store.transaction() as tx:
        filled = job_runs.fill_missed(tx, late_s=0)
        assert JOB.name in filled
        assert job_runs.fill_missed(tx, late_s=0) == []
    # Two periods have passed, and only the latest counts.
    assert len(rows(runtime)) == 2


def test_a_run_that_fails_is_tried_again_and_ends(runtime: Runtime) -> None:
    def passing(_turn: ScheduledRun) -> dict[str, Any]:
        raise OSError(errno.EIO, "Input/output error")

    job_runs.run(runtime, TICK, passing)
    [row] = rows(runtime)
    assert (row.state, row.attempt) == ("pending", 1)
    assert row.last_error == judge(OSError(errno.EIO, "")).reason
    # It waits for its next attempt, so no other run of the job starts.
    ask(runtime)
    done: list[ScheduledRun] = []
    job_runs.run(runtime, TICK, doing(done))
    assert done == []

    def permanent(_turn: ScheduledRun) -> dict[str, Any]:
        raise Permanent("no-use", "it is of no use")

    with runtime.store.transaction() as tx:
        tx.execute(text("UPDATE job_runs SET due_at = now() WHERE attempt > 0"))
    job_runs.run(runtime, TICK, permanent)
    failed, waiting = rows(runtime)
    assert (failed.state, failed.problem) == (
        "failed",
        {"code": "no-use", "detail": "it is of no use"},
    )
    assert waiting.state == "pending"
    job_runs.run(runtime, TICK, doing(done))
    assert rows(runtime)[1].state == "completed"


def test_options_reach_the_job_and_the_oldest_comes_first(runtime: Runtime) -> None:
    at = now(runtime)
    ask(runtime, slot=at - timedelta(days=2), dry_run=True)
    ask(runtime, slot=at - timedelta(days=1))
    done: list[ScheduledRun] = []
    for _ in range(3):
        job_runs.run(runtime, TICK, doing(done))
    assert [turn.options for turn in done] == [{"dry_run": True}, {}, {}]
    assert [turn.slot for turn in done] == sorted(turn.slot for turn in done)
    with runtime.store.transaction() as tx:
        latest = job_run_queries.latest_result(tx, JOB.name)
        assert latest is not None
        assert latest.result == {"number": 3}
        assert job_run_queries.latest_tick(tx) == JOB.latest_slot(at)
        assert job_run_queries.latest_runs(tx, [JOB.name])[JOB.name].id == latest.id
        assert len(job_run_queries.runs_of(tx, JOB.name, limit=2)) == 2


def test_recovery_reads_few_pages_however_many_runs_there_are(runtime: Runtime) -> None:
    names = [job.name for job in jobs.JOBS]
    many = text("""
        INSERT INTO job_runs (id, job, slot, source, state)
        SELECT gen_random_uuid(), job, now() - make_interval(hours => n), 'clock', 'completed'
        FROM unnest(CAST(:jobs AS text[])) AS job, generate_series(0, 16999) AS n
    """)
    with runtime.store.transaction() as tx:
        tx.execute(many, {"jobs": names})
        tx.execute(text("ANALYZE job_runs"))
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        seen.append((statement, values))

    with runtime.store.transaction() as tx:
        connection = tx.connection()
        assert connection.exec_driver_sql("SELECT count(*) FROM job_runs").scalar_one() >= 100_000
        event.listen(connection, "before_cursor_execute", note)
        newest = job_run_queries.newest_slots(tx, names)
        latest = job_run_queries.latest_runs(tx, names)
        event.remove(connection, "before_cursor_execute", note)
        assert newest == {name: run.slot for name, run in latest.items()}
        assert set(newest) == set(names)
        assert len(seen) == 2
        for statement, values in seen:
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            [plan] = connection.exec_driver_sql(explained, values).scalar_one()
            read = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
            assert 0 < read < 100, plan
