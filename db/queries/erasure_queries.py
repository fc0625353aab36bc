"""Queries that erase a user, page by page: every row of theirs, and every blob.

Each table is in `ERASED` or in `STAYS`; a test compares the two with the metadata, so that a new
table cannot be forgotten. A call that dies in between is repeated: the user is disabled first, and
their own row is removed last.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Text,
    and_,
    any_,
    cast,
    delete,
    func,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from db.blobs.keys import report_prefix, training_prefix, validation_prefix
from db.queries import deletion_queries, model_queries, removal_queries
from db.queries.removed_blob_queries import note_removed
from db.tables.accounts import ApiKey, User
from db.tables.analyses import AnalysisJob
from db.tables.base import Base
from db.tables.batches import OPEN_STATES, AudioBatch, AudioBatchItem
from db.tables.detections import NoiseDetection
from db.tables.exports import Export
from db.tables.idempotency import IdempotentRequest
from db.tables.metrics import ProcessingMetric
from db.tables.models import NoiseModel
from db.tables.reports import DailyReport
from db.tables.requests import APIRequest, RequestMinute
from db.tables.retention import KeptClip
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan
from db.tables.training import TrainingClip, TrainingJob, Validation
from db.tables.unfinished import NO_LANE, SessionLeftovers, Turn, UnfinishedSession
from db.tables.usage_limits import RateBucket, UsageMonth
from db.tables.webhooks import WebhookDelivery, WebhookEndpoint

#: The number of rows by table.
Counts: TypeAlias = Counter[str]

#: Requests removed per transaction.
PAGE_REQUESTS = 10_000
#: Trainings and validations removed per transaction: each may have thousands of recordings.
PAGE_LABELLED = 10

#: The tables that have rows of a session, besides its own.
_OF_SESSIONS: Sequence[tuple[type[Base], ColumnElement[uuid.UUID]]] = (
    (NoiseDetection, NoiseDetection.session_id.expression),
    (SessionSpan, SessionSpan.session_id.expression),
    (AnalysisJob, AnalysisJob.id.expression),
    (UnfinishedSession, UnfinishedSession.session_id.expression),
    (SessionLeftovers, SessionLeftovers.session_id.expression),
    (SessionResult, SessionResult.session_id.expression),
)

#: How the rows of a user leave each table.
ERASED: Mapping[str, str] = {
    "users": "the row itself, last",
    "api_keys": "with the user",
    "rate_buckets": "with their keys",
    "usage_months": "with the user",
    "idempotent_requests": "with the user",
    "webhooks": "with the user",
    "webhook_deliveries": "with their webhooks",
    "api_requests": "by user",
    "request_minutes": "by user",
    "audio_sessions": "by user",
    **{table.__tablename__: "with their sessions" for table, _ in _OF_SESSIONS},
    "processing_metrics": "by session; those of jobs are durations, with the ID of a removed row",
    "batches": "by user",
    "batch_items": "with their batches",
    "exports": "by user, and those of others that may contain a session",
    "kept_clips": "by user, and by session",
    "daily_reports": "by user; those of all users are sums without names, and stay",
    "training_jobs": "by user",
    "training_clips": "with their trainings; in those of others the session is unnamed",
    "validations": "by user; those of others on a session lose their labelled set",
    "turns": "by lane, which is the user",
    "noise_models": "by user; one in use stays, without its user, and is named",
}
#: Why the other tables have nothing of a user.
STAYS: Mapping[str, str] = {
    "promotions": "figures of models, which leave with their model",
    "job_runs": "runs of periodic jobs: counts",
    "installation": "the installation",
    "orphan_blobs": "keys of blobs without a row, which the job clean_up removes",
    "removed_blobs": "keys of removed blobs, until they are finally removed",
}


def begin(tx: Session, user_id: uuid.UUID) -> bool | None:
    """Disable a user, and stop what would make further rows; None if there is no such user, False
    if one of their sessions is under legal hold.
    """
    user = tx.scalars(select(User).where(User.id == user_id).with_for_update()).one_or_none()
    if user is None:
        return None
    held = select(AudioSession.id).where(AudioSession.user_id == user_id, AudioSession.legal_hold)
    if tx.execute(held.limit(1)).one_or_none() is not None:
        return False
    user.disabled_at = user.disabled_at or func.now()
    tx.flush()
    _change(
        tx,
        update(AudioBatch)
        .where(AudioBatch.user_id == user_id, AudioBatch.state.in_(OPEN_STATES))
        .values(state="cancelled", finished_at=func.clock_timestamp()),
    )
    return True


def erase_sessions(tx: Session, ids: Collection[uuid.UUID], counts: Counts) -> set[uuid.UUID]:
    """Remove some sessions with every row about them; return the models that learned from them."""
    removal_queries.lock_sessions(tx, ids)
    models = removal_queries.models_trained_on(tx, ids)
    for table, column in _OF_SESSIONS:
        n_rows = tx.execute(select(func.count()).where(column.in_(ids))).scalar_one()
        counts[table.__tablename__] += n_rows
    removed, n_exports, n_clips = removal_queries.forget_sessions(tx, ids)
    counts["audio_sessions"] += len(removed)
    counts["exports"] += n_exports
    counts["kept_clips"] += n_clips
    counts["processing_metrics"] += _change(
        tx, delete(ProcessingMetric).where(ProcessingMetric.session_id.in_(removed))
    )
    counts["training_clips"] += _change(
        tx,
        update(TrainingClip)
        .where(TrainingClip.session_id.in_(removed))
        .values(session_id=None, file_name="erased"),
    )
    counts["validations"] += _unlabel(tx, removed)
    return models


def _unlabel(tx: Session, ids: Collection[uuid.UUID]) -> int:
    """Remove the labelled sets that name one of some sessions from their validations."""
    if not ids:
        return 0
    patterns = literal([f"%{each}%" for each in ids], ARRAY(Text))
    return _change(
        tx,
        update(Validation)
        .where(cast(Validation.labelled, Text).like(any_(patterns)))
        .values(labelled=null(), set_sha256=None),
    )


def erase_requests(tx: Session, user_id: uuid.UUID, counts: Counts) -> bool:
    """Remove some of a user's requests from the log; False if there are none left."""
    page = (
        select(APIRequest.received_at, APIRequest.id)
        .where(APIRequest.user_id == user_id)
        .limit(PAGE_REQUESTS)
        .subquery()
    )
    which = and_(APIRequest.received_at == page.c.received_at, APIRequest.id == page.c.id)
    n_rows = _change(tx, delete(APIRequest).where(which))
    counts["api_requests"] += n_rows
    return n_rows > 0


def erase_labelled(tx: Session, user_id: uuid.UUID, counts: Counts, models: set[uuid.UUID]) -> bool:
    """Remove some of a user's trainings and validations, with their recordings; False if there are
    none left. The models of the trainings are added to ``models``.
    """
    found = False
    for table, prefix in ((TrainingJob, training_prefix), (Validation, validation_prefix)):
        rows = tx.execute(
            select(table.id, table.model_id).where(table.user_id == user_id).limit(PAGE_LABELLED)
        ).all()
        ids = [row.id for row in rows]
        if not ids:
            continue
        found = True
        if table is TrainingJob:
            models |= {row.model_id for row in rows if row.model_id is not None}
            clips = select(func.count()).where(TrainingClip.job_id.in_(ids))
            counts["training_clips"] += tx.execute(clips).scalar_one()
        counts[table.__tablename__] += _change(tx, delete(table).where(table.id.in_(ids)))
        note_removed(tx, map(prefix, ids))
    return found


def finish(tx: Session, user_id: uuid.UUID, counts: Counts) -> set[uuid.UUID] | None:
    """Remove what remains of a user, and the user; return their models that stay, as they are in
    use. None, with nothing removed, if the user has sessions again.
    """
    # The row of a new session refers to the user, so it cannot be added while this is locked.
    tx.execute(select(User.id).where(User.id == user_id).with_for_update())
    sessions = select(AudioSession.id).where(AudioSession.user_id == user_id).limit(1)
    if tx.execute(sessions).one_or_none() is not None:
        return None
    model_queries.lock_promotions(tx)
    counts["exports"] += removal_queries.remove_exports(tx, Export.user_id == user_id)
    counts["kept_clips"] += removal_queries.remove_clips(tx, KeptClip.user_id == user_id)
    reports = tx.scalars(select(DailyReport.id).where(DailyReport.user_id == user_id)).all()
    note_removed(tx, map(report_prefix, reports))
    stay = set()
    for model_id in tx.scalars(select(NoiseModel.id).where(NoiseModel.user_id == user_id)).all():
        if deletion_queries.remove_model(tx, model_id, owner=user_id):
            stay.add(model_id)
        else:
            counts["noise_models"] += 1
    batches = select(AudioBatch.id).where(AudioBatch.user_id == user_id).scalar_subquery()
    keys = select(ApiKey.id).where(ApiKey.user_id == user_id).scalar_subquery()
    hooks = select(WebhookEndpoint.id).where(WebhookEndpoint.user_id == user_id).scalar_subquery()
    with_others = (
        (AudioBatchItem, AudioBatchItem.batch_id.in_(batches)),
        (RateBucket, RateBucket.key_id.in_(keys)),
        (WebhookDelivery, WebhookDelivery.webhook_id.in_(hooks)),
    )
    # Explicitly rather than by their cascades, which do not count.
    for table, which in with_others:
        counts[table.__tablename__] += _change(tx, delete(table).where(which))
    for each in (
        AudioBatch,
        ApiKey,
        WebhookEndpoint,
        UsageMonth,
        IdempotentRequest,
        RequestMinute,
        DailyReport,
    ):
        counts[each.__tablename__] += _change(tx, delete(each).where(each.user_id == user_id))
    counts["turns"] += _change(tx, update(Turn).where(Turn.lane == user_id).values(lane=NO_LANE))
    counts["users"] += _change(tx, delete(User).where(User.id == user_id))
    return stay


def _change(tx: Session, statement: object) -> int:
    """Run a statement that changes rows; return their number."""
    changed = tx.execute(statement, execution_options={"synchronize_session": False})  # type: ignore[call-overload]
    assert isinstance(changed, CursorResult)
    return int(changed.rowcount)
