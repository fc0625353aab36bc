"""Queries for the runs of periodic jobs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    bindparam,
    exists,
    func,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import LateralFromClause

from db.ids import new_id
from db.queries.model_queries import JobDone, JobWork
from db.queue import claims
from db.queue.claims import Claim
from db.tables.base import JsonObject
from db.tables.job_runs import JobRun

#: The first half of the advisory locks that serialise the claims of a job's runs.
JOB_LOCK = 0x636C6F63


class RequestedRun(TypedDict, total=False):
    """The columns of a new run that its request sets."""

    traceparent: str | None
    nudged_at: ColumnElement[datetime]


class RunDone(JobDone):
    """What a run writes at its end."""

    result: JsonObject


#: The names of some jobs, as rows.
_NAMES = func.unnest(bindparam("jobs", type_=ARRAY(Text))).table_valued("job").render_derived()


def _newest(runs: Select[Any]) -> LateralFromClause:
    """Return the newest of some runs, by the job in :data:`_NAMES`."""
    return runs.where(JobRun.job == _NAMES.c.job).order_by(JobRun.slot.desc()).limit(1).lateral()


def add_run(
    tx: Session,
    job: str,
    slot: datetime,
    *,
    source: str,
    options: Mapping[str, Any] | None = None,
    run_id: uuid.UUID | None = None,
    **values: Unpack[RequestedRun],
) -> uuid.UUID | None:
    """Add a run, with a new ID or a given one; return None if its slot has a run already."""
    return tx.execute(
        postgresql.insert(JobRun)
        .values(
            id=run_id or new_id(),
            state="pending",
            job=job,
            slot=slot,
            source=source,
            options=dict(options or {}),
            **values,
        )
        .on_conflict_do_nothing(index_elements=["job", "slot"])
        .returning(JobRun.id)
    ).scalar_one_or_none()


def newest_slots(tx: Session, jobs: Sequence[str]) -> dict[str, datetime]:
    """Return the newest scheduled slot of each of these jobs that has one.

    Reads one entry of an index per job, however many runs there are: recovery asks every few
    seconds.
    """
    newest = _newest(select(JobRun.slot).where(JobRun.source != "person"))
    rows = tx.execute(select(_NAMES.c.job, newest.c.slot).join(newest, true()), {"jobs": jobs})
    return dict(rows.all())


def take_run(job: str, tx: Session, *, lease_s: float) -> Claim[JobWork] | None:
    """Claim the oldest due run of a job, unless another run of it is active.

    A run that failed and waits for its next try is active too. Claims of a job are serialised, so
    that two workers cannot begin two runs at once.
    """
    tx.execute(select(func.pg_advisory_xact_lock(JOB_LOCK, func.hashtext(job))))
    if is_active(tx, job):
        return None
    waiting = select(JobRun).where(JobRun.job == job, JobRun.state == "pending")
    run = tx.scalars(waiting.where(claims.due(JobRun)).order_by(JobRun.slot).limit(1)).first()
    if run is None:
        return None
    return claims.this(JobWork(job=JobRun, id=run.id), tx, lease_s=lease_s)


def is_active(tx: Session, job: str) -> bool:
    """Whether a worker holds a run of a job, or a run waits for its next try."""
    active = exists().where(
        JobRun.job == job,
        JobRun.state == "pending",
        JobRun.attempt > 0,
        JobRun.due_at > func.clock_timestamp(),
    )
    return bool(tx.execute(select(active)).scalar_one())


def get_run(tx: Session, run_id: uuid.UUID) -> JobRun | None:
    """Return a run, or None."""
    return tx.get(JobRun, run_id)


def latest_runs(tx: Session, jobs: Sequence[str]) -> dict[str, JobRun]:
    """Return the newest run of each of these jobs that has one, whatever its origin."""
    newest = _newest(select(JobRun.id))
    ids = select(newest.c.id).select_from(_NAMES).join(newest, true())
    rows = tx.scalars(select(JobRun).where(JobRun.id.in_(ids)), {"jobs": jobs})
    return {row.job: row for row in rows}


def runs_of(tx: Session, job: str, *, limit: int) -> Sequence[JobRun]:
    """Return the newest runs of a job, newest first."""
    return tx.scalars(
        select(JobRun).where(JobRun.job == job).order_by(JobRun.slot.desc()).limit(limit)
    ).all()


def latest_result(tx: Session, job: str) -> JobRun | None:
    """Return the newest finished run of a job, or None."""
    return tx.scalars(
        select(JobRun)
        .where(JobRun.job == job, JobRun.finished_at.is_not(None))
        .order_by(JobRun.slot.desc())
        .limit(1)
    ).one_or_none()


def latest_tick(tx: Session) -> datetime | None:
    """Return the latest slot for which the scheduler sent a tick."""
    return tx.execute(select(func.max(JobRun.slot)).where(JobRun.source == "clock")).scalar_one()


def first_run_at(tx: Session) -> datetime | None:
    """Return when the first run was recorded."""
    return tx.execute(select(func.min(JobRun.created_at))).scalar_one()


def skip(tx: Session, slots: Iterable[tuple[str, datetime]]) -> None:
    """Record slots before the start of an installation as done."""
    for job, slot in slots:
        run_id = add_run(tx, job, slot, source="steward")
        if run_id is not None:
            tx.execute(
                update(JobRun)
                .where(JobRun.id == run_id)
                .values(state="completed", result={"skipped": "a new installation"})
            )


def fill(tx: Session, missed: Iterable[tuple[str, datetime]]) -> list[str]:
    """Record slots without a tick; return the jobs of those that were missing."""
    return [job for job, slot in missed if add_run(tx, job, slot, source="steward") is not None]
