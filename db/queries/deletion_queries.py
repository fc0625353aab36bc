"""Queries that remove batches, daily reports and models on request."""

from __future__ import annotations

import uuid

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from db.blobs.keys import report_prefix, validation_prefix
from db.queries import model_queries
from db.queries.removed_blob_queries import note_removed
from db.queries.session_queries import is_of
from db.tables.batches import OPEN_STATES, AudioBatch
from db.tables.models import NoiseModel, Promotion
from db.tables.reports import DailyReport
from db.tables.sessions import AudioSession
from db.tables.training import TrainingJob, Validation
from db.tables.unfinished import UnfinishedSession


def remove_batch(tx: Session, batch_id: uuid.UUID) -> bool:
    """Remove a locked batch that takes no more recordings, with its items; False if it has
    sessions.
    """
    of_batch = select(AudioSession.id).where(AudioSession.batch_id == batch_id).limit(1)
    if tx.execute(of_batch).one_or_none() is not None:
        return False
    tx.execute(
        delete(AudioBatch).where(AudioBatch.id == batch_id),
        execution_options={"synchronize_session": False},
    )
    return True


def remove_report(tx: Session, report_id: uuid.UUID, *, owner: uuid.UUID | None) -> bool:
    """Remove a daily report; False if there is none, or, with an owner, none of theirs."""
    removed = tx.scalars(
        delete(DailyReport)
        .where(DailyReport.id == report_id, is_of(DailyReport, owner))
        .returning(DailyReport.id),
        execution_options={"synchronize_session": False},
    ).all()
    note_removed(tx, map(report_prefix, removed))
    return bool(removed)


def remove_model(tx: Session, model_id: uuid.UUID, *, owner: uuid.UUID | None) -> str | None:
    """Remove a model, with its validations and promotions; return why it stays, ``""`` if it was
    removed, None if there is none, or, with an owner, none of theirs.

    The caller holds the lock of promotions.
    """
    row = tx.scalars(
        select(NoiseModel)
        .where(NoiseModel.id == model_id, is_of(NoiseModel, owner))
        # No session can be posted with it until the end of the transaction.
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    if (reason := _why_it_stays(tx, row)) is not None:
        return reason
    for table in (AudioSession, TrainingJob):
        tx.execute(
            update(table).where(table.model_id == model_id).values(model_id=None),
            execution_options={"synchronize_session": False},
        )
    validations = tx.scalars(
        delete(Validation).where(Validation.model_id == model_id).returning(Validation.id),
        execution_options={"synchronize_session": False},
    ).all()
    for removal in (
        delete(Promotion).where(Promotion.model_id == model_id),
        delete(NoiseModel).where(NoiseModel.id == model_id),
    ):
        tx.execute(removal, execution_options={"synchronize_session": False})
    files = (key for key in (row.blob_key, row.confusion_key) if key is not None)
    note_removed(tx, [*map(validation_prefix, validations), *files])
    return ""


def _why_it_stays(tx: Session, model: NoiseModel) -> str | None:
    in_use = model_queries.model_in_use(tx)
    if in_use is not None and in_use.id == model.id:
        return "it is the model in use"
    if model.is_shipped:
        return "it came with a release"
    unfinished = (
        select(AudioSession.id)
        .join(UnfinishedSession, UnfinishedSession.session_id == AudioSession.id)
        .where(AudioSession.model_id == model.id)
        .limit(1)
    )
    if tx.execute(unfinished).one_or_none() is not None:
        return "an unfinished session uses it"
    validated = select(Validation.id).where(
        Validation.model_id == model.id, Validation.state == "pending"
    )
    if tx.execute(validated.limit(1)).one_or_none() is not None:
        return "an unfinished validation uses it"
    # Batches create their sessions bit by bit.
    batch = select(AudioBatch.id).where(
        AudioBatch.state.in_(OPEN_STATES), AudioBatch.options["model_id"].astext == str(model.id)
    )
    if tx.execute(batch.limit(1)).one_or_none() is not None:
        return "an unfinished batch uses it"
    return None
