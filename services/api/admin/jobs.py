"""``/v1/jobs``: periodic jobs, their runs, and runs on request. For administrators."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

import falcon
import msgspec

from actors.messaging.broker import Publisher
from actors.observability import tracing
from actors.scheduling import jobs as schedule
from actors.scheduling.jobs import PeriodicJob
from db import typed
from db.queries import job_run_queries, session_queries
from db.queries.job_run_queries import RequestedRun
from db.queue import claims
from db.store import Store
from db.tables.job_runs import JobRun
from services.api.common.parameters import Few
from services.api.common.schemas import AsyncTask, Problem
from services.http import idempotency
from services.http.access import ADMIN
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation, query_of
from services.http.resource import Resource
from services.http.responses import answer

#: Runs listed by default.
PAGE_ITEMS = 50
MAX_PAGE_ITEMS = 1_000


class Run(AsyncTask, kw_only=True):
    """One run of a periodic job: ``pending``, then ``completed`` or ``failed``."""

    #: The name of the job.
    job: str
    #: The scheduled time of the run; for a requested run, the time of the request.
    slot: datetime
    #: What started the run: ``clock``, ``steward`` (recovery of a missed slot) or ``person``.
    source: str
    options: dict[str, Any]
    #: The result of the run; null unless it has completed.
    result: dict[str, Any] | None

    @classmethod
    def of(cls, row: JobRun) -> Run:
        """Convert a row to a run."""
        values = {name: getattr(row, name) for name in cls.__struct_fields__ if name != "problem"}
        return cls(**values, problem=typed.convert(row.problem, Problem | None))


class Job(msgspec.Struct, kw_only=True):
    """A periodic job."""

    name: str
    #: Cron expression in UTC: minute, hour, day of month, month, day of week.
    cron: str
    why: str
    next_at: datetime
    latest_run: Run | None

    @classmethod
    def of(cls, job: PeriodicJob, latest: JobRun | None, *, now: datetime) -> Job:
        """Combine a scheduled job with its latest run."""
        return cls(
            name=job.name,
            cron=job.cron,
            why=job.why,
            next_at=job.next_slot(now),
            latest_run=None if latest is None else Run.of(latest),
        )


class JobPage(msgspec.Struct, kw_only=True):
    """The periodic jobs, in the order of the schedule."""

    items: list[Job]


class RunPage(msgspec.Struct, kw_only=True):
    """The latest runs of a job, newest first."""

    items: list[Run]


#: A name or a string value in the options of a job.
Word = Annotated[str, msgspec.Meta(max_length=200)]


class NewRun(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A request to run a job."""

    #: Options that override the defaults of the job; docs/maintenance.md lists them.
    options: Annotated[dict[Word, Word | bool | int | float | None], Few] = {}


class RunQuery(msgspec.Struct, kw_only=True):
    """How many runs to list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE_ITEMS)] = PAGE_ITEMS


def jobs(store: Store) -> JobPage:
    """Return every job with its latest run."""
    with store.transaction() as tx:
        latest = job_run_queries.latest_runs(tx, [job.name for job in schedule.JOBS])
        now = session_queries.clock(tx)
    return JobPage(items=[Job.of(job, latest.get(job.name), now=now) for job in schedule.JOBS])


def ask(
    store: Store,
    publisher: Publisher | None,
    name: str,
    options: dict[str, Any],
    *,
    run_id: uuid.UUID | None = None,
) -> Run:
    """Store a run and send its nudge; raises :class:`NotFound`.

    Without a publisher, recovery sends the nudge in its next round.
    """
    job = _job_or_404(name)
    values = RequestedRun(traceparent=tracing.current())
    if publisher is None:
        values["nudged_at"] = claims.seconds_from_now(-1)
    with store.transaction() as tx:
        run_id = job_run_queries.add_run(
            tx,
            name,
            session_queries.clock(tx),
            source="person",
            options=options,
            run_id=run_id,
            **values,
        )
        # Only a slot that exists is refused, and `clock` returns the current time of each call.
        assert run_id is not None
        row = job_run_queries.get_run(tx, run_id)
        assert row is not None
        run = Run.of(row)
    if publisher is not None:
        publisher.send(job.nudge())
    return run


def _job_or_404(name: str) -> PeriodicJob:
    """Return the job with a name; raises :class:`NotFound`."""
    job = schedule.job_named(name)
    if job is None:
        raise NotFound.of("job")(f"there is no job named {name!r}")
    return job


class JobList(Resource):
    """``GET /v1/jobs``."""

    @operation(scope=ADMIN, answer=JobPage)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """List the periodic jobs, each with its next run time and the result of its latest run."""
        answer(resp, jobs(self.deps.store))


class JobRuns(Resource):
    """``/v1/jobs/{job}/runs``."""

    @operation(scope=ADMIN, query=RunQuery, answer=RunPage, problems=(NotFound.of("job"),))
    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        """List the latest runs of a job, newest first."""
        asked = query_of(req, RunQuery)
        _job_or_404(job)
        with self.deps.store.reading() as tx:
            rows = job_run_queries.runs_of(tx, job, limit=asked.limit)
        answer(resp, RunPage(items=[Run.of(row) for row in rows]))

    @operation(scope=ADMIN, body=NewRun, answer=Run, status=202, problems=(NotFound.of("job"),))
    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        """Run a job now. If a run of the same job is in progress, the new one waits for it."""
        asked = body_of(req, NewRun)
        run = ask(
            self.deps.store, self.deps.publisher, job, asked.options, run_id=idempotency.new_id(req)
        )
        _answer(resp, run)

    def replay(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the run that an earlier attempt of this request created."""
        with self.deps.store.reading() as tx:
            row = or_404(job_run_queries.get_run(tx, made_id), "job", made_id)
        _answer(resp, Run.of(row))


def _answer(resp: falcon.Response, run: Run) -> None:
    answer(resp, run, status=202, location=f"/v1/jobs/{run.job}/runs")
