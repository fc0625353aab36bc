"""``/v1/jobs``: the periodic jobs, their runs, and a run for the asking. For administrators."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

import falcon
import msgspec

from actors.messaging.broker import Publisher
from actors.observability import tracing
from actors.scheduling import jobs as schedule
from actors.scheduling.jobs import Job as ScheduledJob
from db.queries import job_run_queries, session_queries
from db.queue import claims
from db.store import Store
from db.tables.job_runs import JobRun
from services.api.sessions.list_schemas import Few
from services.api.sessions.schemas import Problem, Task
from services.http import idempotency
from services.http.access import ADMIN
from services.http.errors import InvalidBody, InvalidParameter, JobNotFound
from services.http.operations import body_of, operation, query_of
from services.http.responses import answer

#: Runs of a job that the list shows.
PAGE_ITEMS = 50
MAX_PAGE_ITEMS = 1_000


class Run(Task, kw_only=True):
    """One run of a periodic job: ``pending``, then ``completed`` or ``failed``."""

    #: The name of the job.
    job: str
    #: The time of the schedule that it ran for; of a run that was asked for, when that was.
    slot: datetime
    #: ``clock``, ``steward`` (recovery, which fills slots that were missed) or ``person``.
    source: str
    options: dict[str, Any]
    #: What it did; null until it has ended well.
    result: dict[str, Any] | None

    @classmethod
    def of(cls, row: JobRun) -> Run:
        """The run of a row."""
        values = {name: getattr(row, name) for name in cls.__struct_fields__ if name != "problem"}
        return cls(**values, problem=msgspec.convert(row.problem, Problem | None))


class Job(msgspec.Struct, kw_only=True):
    """A periodic job."""

    name: str
    #: Minute, hour, day of month, month, day of week, in UTC.
    cron: str
    why: str
    next_at: datetime
    latest_run: Run | None

    @classmethod
    def of(cls, job: ScheduledJob, latest: JobRun | None, *, now: datetime) -> Job:
        """A job of the schedule, with its newest run."""
        return cls(
            name=job.name,
            cron=job.cron,
            why=job.why,
            next_at=job.next_slot(now),
            latest_run=None if latest is None else Run.of(latest),
        )


class JobPage(msgspec.Struct, kw_only=True):
    """The jobs, in the order of the schedule."""

    items: list[Job]


class RunPage(msgspec.Struct, kw_only=True):
    """The newest runs of a job, newest first."""

    items: list[Run]


#: A name or a text in the options of a job.
Word = Annotated[str, msgspec.Meta(max_length=200)]


class NewRun(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A run to be made."""

    #: What it shall do otherwise than usual; what a job understands stands in docs/maintenance.md.
    options: Annotated[dict[Word, Word | bool | int | float | None], Few] = {}


class RunQuery(msgspec.Struct, kw_only=True):
    """How many runs are shown."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE_ITEMS)] = PAGE_ITEMS


def jobs(store: Store) -> JobPage:
    """Every job with its newest run."""
    with store.transaction() as db:
        latest, now = job_run_queries.latest_runs(db), session_queries.clock(db)
    return JobPage(items=[Job.of(job, latest.get(job.name), now=now) for job in schedule.JOBS])


def ask(
    store: Store,
    publisher: Publisher | None,
    name: str,
    options: dict[str, Any],
    *,
    run_id: uuid.UUID | None = None,
) -> Run:
    """Write a run down, and nudge; raises :class:`JobNotFound`.

    Without a publisher recovery sends the nudge, in its next round.
    """
    job = found(name)
    values = {} if publisher else {"nudged_at": claims.seconds_from_now(-1)}
    with store.transaction() as db:
        run_id = job_run_queries.add_run(
            db, name, session_queries.clock(db), source="person", options=options, run_id=run_id,
            traceparent=tracing.current(), **values,
        )  # fmt: skip
        # The clock of a transaction that waits for nothing does not stand still.
        assert run_id is not None
        row = job_run_queries.get_run(db, run_id)
        assert row is not None
        run = Run.of(row)
    if publisher is not None:
        publisher.send(job.nudge())
    return run


def found(name: str) -> ScheduledJob:
    """The job of a name; raises :class:`JobNotFound`."""
    job = schedule.job_named(name)
    if job is None:
        raise JobNotFound(f"there is no job {name!r}")
    return job


class JobList:
    """``GET /v1/jobs``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(scope=ADMIN, answer=JobPage)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """The periodic jobs, when each is next, and how the newest run of each ended."""
        answer(resp, jobs(self._store))


class JobRuns:
    """``/v1/jobs/{job}/runs``."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    @operation(
        scope=ADMIN, query=RunQuery, answer=RunPage, problems=(JobNotFound, InvalidParameter)
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        """The newest runs of a job, newest first."""
        asked = query_of(req, RunQuery)
        found(job)
        with self._store.reading() as db:
            rows = job_run_queries.runs_of(db, job, limit=asked.limit)
        answer(resp, RunPage(items=[Run.of(row) for row in rows]))

    @operation(
        scope=ADMIN, body=NewRun, answer=Run, status=202, problems=(JobNotFound, InvalidBody)
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        """Have a job run once more; it waits for a run of its kind that is under way."""
        asked = body_of(req, NewRun)
        run = ask(self._store, self._publisher, job, asked.options, run_id=idempotency.new_id(req))
        _answer(resp, run)

    def made(self, _req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the run that an earlier attempt asked for."""
        with self._store.reading() as db:
            row = job_run_queries.get_run(db, made_id)
        if row is not None:
            _answer(resp, Run.of(row))
        return row is not None


def _answer(resp: falcon.Response, run: Run) -> None:
    resp.location = f"/v1/jobs/{run.job}/runs"
    answer(resp, run, status=202)
