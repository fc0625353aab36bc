"""Run periodic jobs: each slot is recorded once, and one run of a job is active at a time.

A run is a work item like any other: claimed with a lease and a fence, retried when it fails, given
up after the last attempt, and nudged by recovery when it stalls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import msgspec
from sqlalchemy.orm import Session

from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge
from actors.scheduling import jobs
from actors.scheduling.jobs import PeriodicJob
from db import typed
from db.queries import job_run_queries, session_queries
from db.queries.job_run_queries import RunDone
from db.queries.model_queries import JobWork
from db.queue.claims import Claim
from db.tables.base import JsonObject

#: Performs a run of a job according to its options, and returns its result.
Perform = Callable[["ScheduledRun"], JsonObject]

#: The options of a job, which override its defaults for one run.
Options = TypeVar("Options", bound=msgspec.Struct)


@dataclass(frozen=True)
class ScheduledRun:
    """One run of a job."""

    runtime: Runtime
    lease: Lease
    #: Writes the progress of the run.
    bar: Bar
    #: When the run was due, and the options that override the defaults.
    slot: datetime
    options: JsonObject

    def asked(self, kind: type[Options]) -> Options:
        """Return the options; raise :class:`Permanent` if the job has no such options."""
        try:
            return typed.convert(self.options, kind)
        except msgspec.ValidationError:
            given = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
            raise Permanent("bad-options", f"this job does not take {given}") from None


def run(runtime: Runtime, nudge: Nudge, perform: Perform) -> None:
    """Perform the next run of a job, if there is one and none is active."""
    job = jobs.job_named(nudge.actor)
    assert job is not None, f"{nudge.actor} has no schedule"
    runner.run(runtime, nudge, partial(_take, job), partial(_task, runtime, job, perform))


def _take(job: PeriodicJob, tx: Session, *, lease_s: float) -> Claim[JobWork] | None:
    """Record the latest slot, unless another worker has, and claim the oldest run."""
    slot = job.latest_slot(session_queries.clock(tx))
    job_run_queries.add_run(tx, job.name, slot, source="clock")
    return job_run_queries.take_run(job.name, tx, lease_s=lease_s)


def _task(runtime: Runtime, job: PeriodicJob, perform: Perform, work: JobWork) -> runner.Task:
    def performed(lease: Lease) -> runner.Result:
        with runtime.store.transaction() as tx:
            row = job_run_queries.get_run(tx, work.id)
        assert row is not None
        bar = Bar(runtime, work, lease)
        result = perform(ScheduledRun(runtime, lease, bar, row.slot, row.options))
        values = RunDone(percent=100, stage="done", result=result)
        # Other runs of the job may have been waiting for this one to end.
        then = [job.nudge()]
        return runner.Result(runner.move_on(work, to="completed", values=values, then=then))

    return runner.Task(name=job.name, work=work, perform=performed, give_up=runner.fail(work))


def fill_missed(tx: Session, *, late_s: float) -> list[str]:
    """Record slots without a tick for ``late_s`` seconds; return the names of their jobs."""
    now = session_queries.clock(tx) - timedelta(seconds=late_s)
    newest = job_run_queries.newest_slots(tx, [job.name for job in jobs.JOBS])
    missed = [
        (job, slot) for job in jobs.JOBS for slot in job.missed(newest.get(job.name), now=now)
    ]
    # A new installation has missed nothing: there was no work before it.
    before = [(job, slot) for job, slot in missed if job.name not in newest and not job.at_once]
    job_run_queries.skip(tx, ((job.name, slot) for job, slot in before))
    return job_run_queries.fill(tx, ((job.name, slot) for job, slot in missed))
