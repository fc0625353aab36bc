"""Queries for paged lists: their orders and filters.

A filter that is None or empty matches everything. Indexed columns are never wrapped in a function,
so that their indexes apply; docs/lists.md shows the query plans of Postgres.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, case, exists, null, select, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries import batch_queries, model_queries, session_queries
from db.queries.detection_queries import (
    DETECTION_VIEW,
    DetectionView,
    matching,
    with_metadata,
)
from db.queries.paging import Blank, Keys, Order, Page, one_of, orders, within
from db.queries.session_view_queries import SESSION_VIEW, SessionView
from db.tables.base import JsonObject
from db.tables.batches import OPEN_STATES, AudioBatch, AudioBatchItem
from db.tables.detections import NoiseDetection
from db.tables.exports import Export
from db.tables.models import NoiseModel
from db.tables.session_results import FINAL_STATES, SessionResult
from db.tables.sessions import UNFINISHED_STATES, AudioSession
from db.tables.training import TrainingJob, Validation
from db.tables.unfinished import UnfinishedSession

SESSIONS = orders(
    {"created_at": AudioSession.created_at, "recorded_at": AudioSession.recorded_at},
    AudioSession.id,
    nullable=("recorded_at",),
) | orders(
    {"duration_s": SessionResult.duration_s, "finished_at": SessionResult.finished_at},
    SessionResult.session_id,
    nullable=("duration_s", "finished_at"),
)
#: Of one session, whose detections are numbered in the order of their onsets.
DETECTIONS = {
    "start_s": Order((NoiseDetection.event_index,)),
    "-start_s": Order((NoiseDetection.event_index,), descending=True),
} | orders(
    {
        "confidence": NoiseDetection.confidence,
        "laeq_db": NoiseDetection.laeq_db,
        "lafmax_db": NoiseDetection.lafmax_db,
        "lae_db": NoiseDetection.lae_db,
        "emergence_db": NoiseDetection.emergence_db,
    },
    NoiseDetection.event_index,
    nullable=("laeq_db", "lafmax_db", "lae_db", "emergence_db"),
)
BATCHES = orders({"created_at": AudioBatch.created_at}, AudioBatch.id)
BATCH_ITEMS = Order((AudioBatchItem.item_index,))
MODELS = orders({"created_at": NoiseModel.created_at}, NoiseModel.id)
TRAININGS = orders({"created_at": TrainingJob.created_at}, TrainingJob.id)
VALIDATIONS = orders({"created_at": Validation.created_at}, Validation.id)
EXPORTS = orders({"created_at": Export.created_at}, Export.id)


def sessions(
    tx: Session,
    *,
    owner: uuid.UUID | None,
    order: Order,
    after: Keys | None,
    limit: int,
    states: Sequence[str] = (),
    noise_types: Sequence[str] = (),
    min_confidence: float | None = None,
    created: tuple[datetime | None, datetime | None] = (None, None),
    batch_id: uuid.UUID | None = None,
    file_name: str | None = None,
    recorded: tuple[datetime | None, datetime | None] = (None, None),
    metadata: JsonObject | None = None,
) -> Page[SessionView]:
    """Return a page of sessions as the API shows them.

    With types or a confidence, only sessions with a detection that matches both.
    """
    where, of_result = _in_states(states, owner)
    if min_confidence is not None and not noise_types:
        # Equivalent to a detection of this confidence, without reading the detections.
        of_result.append(SessionResult.max_confidence >= min_confidence)
    if noise_types:
        wanted = matching(noise_types, min_confidence)
        where.append(exists().where(NoiseDetection.session_id == AudioSession.id, *wanted))
    if batch_id is not None:
        where.append(AudioSession.batch_id == batch_id)
    if file_name is not None:
        where.append(AudioSession.file_name == file_name)
    where += within(AudioSession.recorded_at, *recorded)
    where += with_metadata(metadata)
    of_session = [
        session_queries.is_of(AudioSession, owner),
        *within(AudioSession.created_at, *created),
        *where,
    ]
    chosen, blank = select(AudioSession.id).where(*of_session), None
    if len(states) == 1 and of_result and order.columns[0] is AudioSession.created_at:
        # An index has the sessions of one final state in this order.
        order = replace(order, columns=(SessionResult.created_at, SessionResult.session_id))
    elif order.columns[0].class_ is SessionResult and not of_result:
        blank = _blank(order.columns[0], chosen, owner)
    if order.columns[0].class_ is SessionResult or of_result:
        of_result.append(session_queries.is_of(SessionResult, owner))
        if where or order.columns[0].class_ is AudioSession:
            chosen = chosen.join(AudioSession.result).where(*of_result)
        else:
            of_result += within(SessionResult.created_at, *created)
            chosen = select(SessionResult.session_id).where(*of_result)
    page = order.page(tx, chosen, after=after, limit=limit, shown=SESSION_VIEW, blank=blank)
    n_columns = len(SessionView._fields)
    return Page([SessionView(*row[:n_columns]) for row in page.rows], next=page.next)


def _in_states(
    states: Sequence[str], owner: uuid.UUID | None
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Return the conditions of sessions in some states: of the sessions, and of their results.

    The results have an index by final state for each user, and the table of unfinished sessions is
    small.
    """
    if owner is not None and set(states) <= set(FINAL_STATES):
        return [], one_of(SessionResult.outcome, states)
    if set(states) <= set(UNFINISHED_STATES):
        in_states = one_of(UnfinishedSession.state, states)
        unfinished = select(UnfinishedSession.session_id).where(*in_states)
        return [AudioSession.id.in_(unfinished)] if states else [], []
    return one_of(AudioSession.state, states), []


def _blank(
    column: InstrumentedAttribute[Any], chosen: Select[uuid.UUID], owner: uuid.UUID | None
) -> Blank:
    """Return the sessions without a value in a column of the results: null, or without a row."""
    without_row = ~exists().where(SessionResult.session_id == UnfinishedSession.session_id)
    ids = union_all(
        select(SessionResult.session_id).where(
            session_queries.is_of(SessionResult, owner), column.is_(None)
        ),
        select(UnfinishedSession.session_id).where(without_row),
    )
    return Blank(chosen.where(AudioSession.id.in_(ids)), AudioSession.id)


def detections(
    tx: Session,
    session_id: uuid.UUID,
    *,
    order: Order,
    after: Keys | None,
    limit: int,
    noise_types: Sequence[str] = (),
    min_confidence: float | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
    third_octaves: bool = False,
) -> Page[DetectionView]:
    """Return a page of detections of one session; with times, those that overlap the interval.

    Their ``third_octaves_db`` are null unless requested.
    """
    where = [
        NoiseDetection.session_id == session_id,
        *matching(noise_types, min_confidence),
    ]
    if from_s is not None:
        where.append(NoiseDetection.end_s > from_s)
    if to_s is not None:
        where.append(NoiseDetection.start_s < to_s)
    bands = NoiseDetection.third_octaves_db if third_octaves else null()
    statement = select(*DETECTION_VIEW, bands).where(*where)
    page = order.page(tx, statement, after=after, limit=limit)
    n_columns = len(DetectionView._fields)
    return Page([DetectionView(*row[:n_columns]) for row in page.rows], next=page.next)


def _batch_state() -> ColumnElement[str]:
    """Return the state of a batch: its own while it is filled, then that of its sessions."""
    is_at_work = exists().where(UnfinishedSession.batch_id == AudioBatch.id)
    return case(
        (AudioBatch.state.in_(OPEN_STATES), AudioBatch.state),
        (is_at_work, "processing"),
        (AudioBatch.state == "taken", "finished"),
        else_=AudioBatch.state,
    )


def batches(
    tx: Session,
    *,
    owner: uuid.UUID | None,
    order: Order,
    after: Keys | None,
    limit: int,
    states: Sequence[str] = (),
    created: tuple[datetime | None, datetime | None] = (None, None),
) -> Page[Row[Any]]:
    """Return a page of batches, without the counts of their sessions."""
    state = _batch_state()
    statement = select(
        AudioBatch.id,
        state.label("state"),
        AudioBatch.priority,
        AudioBatch.created_at,
        AudioBatch.items_total,
        AudioBatch.problem,
    ).where(
        session_queries.is_of(AudioBatch, owner),
        *within(AudioBatch.created_at, *created),
        *one_of(state, states),
    )
    return order.page(tx, statement, after=after, limit=limit)


def batch_items(
    tx: Session,
    batch_id: uuid.UUID,
    *,
    order: Order,
    after: Keys | None,
    limit: int,
    states: Sequence[str] = (),
) -> Page[Row[Any]]:
    """Return a page of a batch's items with their outcomes, in their order."""
    statement = batch_queries.items_of(batch_id).where(*one_of(batch_queries.item_state(), states))
    return order.page(tx, statement, after=after, limit=limit)


def models(
    tx: Session, *, owner: uuid.UUID | None, order: Order, after: Keys | None, limit: int
) -> Page[Row[Any]]:
    """Return a page of the models that a user may see."""
    statement = select(NoiseModel).where(model_queries.is_seen_by(owner))
    return order.page(tx, statement, after=after, limit=limit)


def jobs(
    tx: Session,
    job: type[TrainingJob] | type[Validation] | type[Export],
    *,
    owner: uuid.UUID | None,
    order: Order,
    after: Keys | None,
    limit: int,
    states: Sequence[str] = (),
    created: tuple[datetime | None, datetime | None] = (None, None),
    where: Sequence[ColumnElement[bool]] = (),
) -> Page[Row[Any]]:
    """Return a page of trainings, validations or exports. ``where`` adds conditions."""
    statement: Select[Any] = select(job).where(
        session_queries.is_of(job, owner),
        *one_of(job.state, states),
        *within(job.created_at, *created),
        *where,
    )
    return order.page(tx, statement, after=after, limit=limit)
