"""Queries that remove old rows: runs of jobs, batches, reports, trainings, validations.

Each removes a page and skips rows that other transactions have locked, to be found again later.
Only rows whose work has ended are old, by the time since their end.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, exists, or_, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.elements import ColumnElement

from db.queries.model_queries import model_in_use
from db.queue import claims
from db.tables.base import JobRow
from db.tables.batches import OPEN_STATES, AudioBatch
from db.tables.job_runs import JobRun
from db.tables.models import NoiseModel
from db.tables.reports import DailyReport
from db.tables.sessions import AudioSession
from db.tables.training import TrainingJob, Validation

#: Batches with the most items have a hundred thousand, which are removed in about a second.
PAGE_ITEMS = 20_000


def remove_old_runs(tx: Session, *, older_than_s: float, limit: int) -> int:
    """Remove some old runs of periodic jobs; return their number.

    The newest run that has ended stays, of each job and source: recovery fills the slots after it,
    and the health check reads its result.
    """
    newer = aliased(JobRun)
    is_succeeded = exists().where(
        newer.job == JobRun.job,
        newer.source == JobRun.source,
        newer.slot > JobRun.slot,
        newer.state != "pending",
    )
    # Skipped slots were never run and have no end.
    is_old = JobRun.slot < claims.seconds_ago(older_than_s)
    return len(_remove(tx, JobRun, JobRun.state != "pending", is_old, is_succeeded, limit=limit))


def remove_old_batches(tx: Session, *, older_than_s: float, limit: int) -> int:
    """Remove some old batches without sessions, with their items; return the number of batches.

    Together they have at most :data:`PAGE_ITEMS` items, except that there is always at least one
    batch.
    """
    is_old = (
        AudioBatch.state.not_in(OPEN_STATES),
        AudioBatch.finished_at < claims.seconds_ago(older_than_s),
        # One with a legal hold, for example, outlives its batch's age.
        ~exists().where(AudioSession.batch_id == AudioBatch.id),
    )
    rows = tx.execute(
        select(AudioBatch.id, AudioBatch.items_total)
        .where(*is_old)
        .order_by(AudioBatch.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    n_items = itertools.accumulate(row.items_total for row in rows)
    page = [
        row.id
        for index, (row, until) in enumerate(zip(rows, n_items, strict=True))
        if index == 0 or until <= PAGE_ITEMS
    ]
    tx.execute(
        delete(AudioBatch).where(AudioBatch.id.in_(page)),
        execution_options={"synchronize_session": False},
    )
    return len(page)


def remove_old_reports(tx: Session, *, older_than_s: float, limit: int) -> Sequence[uuid.UUID]:
    """Remove some old daily reports; return their IDs."""
    return _remove(tx, DailyReport, *_ended(DailyReport, older_than_s), limit=limit)


def remove_old_trainings(tx: Session, *, older_than_s: float, limit: int) -> Sequence[uuid.UUID]:
    """Remove some old trainings with their clips; return their IDs. Their models stay.

    The newest training of each name stays, as the next one counts its version from it, and so does
    that of the model in use.
    """
    newer = aliased(TrainingJob)
    is_not_newest = exists().where(
        newer.name == TrainingJob.name, newer.version > TrainingJob.version
    )
    return _remove(
        tx,
        TrainingJob,
        *_ended(TrainingJob, older_than_s),
        is_not_newest,
        _is_not_in_use(tx, TrainingJob),
        limit=limit,
    )


def remove_old_validations(tx: Session, *, older_than_s: float, limit: int) -> Sequence[uuid.UUID]:
    """Remove some old validations; return their IDs.

    Those of the model in use stay: the next promotion compares with them.
    """
    return _remove(
        tx,
        Validation,
        *_ended(Validation, older_than_s),
        _is_not_in_use(tx, Validation),
        limit=limit,
    )


def validation_keys(tx: Session, folders: Mapping[uuid.UUID, Sequence[str]]) -> set[str]:
    """Return the needed blobs in the folders of validations.

    These are all blobs of a validation, and the files of models, which outlive their validations.
    """
    known = tx.scalars(select(Validation.id).where(Validation.id.in_(list(folders))))
    keys = {key for each in known for key in folders[each]}
    return keys | files_of_models(tx, (key for of_one in folders.values() for key in of_one))


def files_of_models(tx: Session, keys: Iterable[str]) -> set[str]:
    """Return those of some keys that are files or pictures of models."""
    asked = list(keys)
    files, pictures = (
        select(column).where(column.in_(asked))
        for column in (NoiseModel.blob_key, NoiseModel.confusion_key)
    )
    return {key for key in tx.scalars(files.union(pictures)) if key is not None}


def _ended(job: type[JobRow], older_than_s: float) -> tuple[ColumnElement[bool], ...]:
    return job.state != "pending", job.finished_at < claims.seconds_ago(older_than_s)


def _is_not_in_use(tx: Session, job: type[TrainingJob | Validation]) -> ColumnElement[bool]:
    model = model_in_use(tx)
    return or_(job.model_id.is_(None), job.model_id != (None if model is None else model.id))


def _remove(
    tx: Session, table: type[JobRow], *which: ColumnElement[bool], limit: int
) -> Sequence[uuid.UUID]:
    old = select(table.id).where(*which).limit(limit).with_for_update(skip_locked=True)
    return tx.scalars(
        delete(table).where(table.id.in_(old)).returning(table.id),
        execution_options={"synchronize_session": False},
    ).all()
