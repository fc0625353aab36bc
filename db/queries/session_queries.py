"""Queries for sessions, their detections and metrics.

Each function takes a session and never commits: the caller decides on the transaction. Times are
always those of the database, so that the clocks of the pods need not agree.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, NotRequired, Required, TypedDict, Unpack

from sqlalchemy import (
    ARRAY,
    Double,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    inspect,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries import partition_queries
from db.queue import claims, session_moves
from db.queue.claims import SessionWork, WorkItem
from db.statements import CompiledStatement
from db.tables.base import JsonObject, Owned
from db.tables.detections import NoiseDetection, StoredCandidate
from db.tables.metrics import ProcessingMetric
from db.tables.models import Promotion
from db.tables.sessions import AudioSession
from db.tables.unfinished import UnfinishedSession

#: The source URL of a session's recording without its query, which may contain a secret.
SOURCE_ADDRESS = func.split_part(
    AudioSession.source_url, literal_column("'?'"), literal_column("1")
)

# --- sessions ----------------------------------------------------------------------------------


class OptionColumns(TypedDict, total=False):
    """The columns of a session that its options set, besides the priority."""

    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    noise_floor_db: float | None
    channel: str
    model_id: uuid.UUID | None
    webhook_id: uuid.UUID | None
    thresholds: dict[str, float]
    types: list[str]
    privacy: str
    time_zone: str | None
    user_metadata: JsonObject


class RequestedColumns(OptionColumns, total=False):
    """The columns of a session that its request sets."""

    priority: int
    recorded_at: datetime | None


class NewSessionRow(RequestedColumns, total=False):
    """The columns of a new session; one that is left out gets the default of the table."""

    id: Required[uuid.UUID]
    file_name: Required[str]
    recording_key: Required[str]
    size_bytes: int
    source_url: str
    source_key: str
    batch_id: uuid.UUID | None
    user_id: uuid.UUID | None
    traceparent: str | None
    created_at: datetime


def add_session(tx: Session, *, reserved_s: float = 0.0, **values: Unpack[NewSessionRow]) -> None:
    """Add a session for a new recording, queued in its lane.

    ``reserved_s`` seconds of its user's monthly audio are reserved until it is counted.
    """
    _adding_session(tuple(values)).run(tx, **values, state="queued", reserved_s=reserved_s)


@lru_cache
def _adding_session(names: tuple[str, ...]) -> CompiledStatement:
    """Return the statement that adds a session with some columns, and its work."""
    types = AudioSession.__table__.columns
    row = {name: bindparam(name, type_=types[name].type) for name in ("state", *names)}
    added = insert(AudioSession).values(row).returning(*session_moves.QUEUED).cte()
    reserved_s = bindparam("reserved_s", type_=Double)
    return CompiledStatement(session_moves.queueing(added, reserved_s=reserved_s))


def is_of(table: type[Owned], owner: uuid.UUID | None) -> ColumnElement[bool]:
    """Return the condition that a row belongs to a user; always true without an owner."""
    return true() if owner is None else table.user_id == owner


def get_session(
    tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AudioSession | None:
    """Return a session, or None; with an owner only if it is theirs."""
    return tx.scalars(
        select(AudioSession).where(AudioSession.id == session_id, is_of(AudioSession, owner))
    ).one_or_none()


def lock_session(
    tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AudioSession | None:
    """Return a session, locked until the end of the transaction, or None; with an owner only if it
    is theirs.
    """
    return tx.scalars(
        select(AudioSession)
        .where(AudioSession.id == session_id, is_of(AudioSession, owner))
        .with_for_update(of=AudioSession)
    ).one_or_none()


class SessionToProcess(NamedTuple):
    """A session, which no transaction watches, and the model promoted last, if any."""

    session: AudioSession
    promoted_model_id: uuid.UUID | None


def session_to_process(tx: Session, session_id: uuid.UUID) -> SessionToProcess | None:
    """Return a session and the promoted model, in a third of the time of two queries."""
    row = _TO_PROCESS.run(tx, session_id=session_id).fetchone()
    if row is None:
        return None
    *values, promoted_model_id = row
    columns = dict(zip(_SESSION_COLUMNS, values, strict=True))
    return SessionToProcess(AudioSession(**columns), promoted_model_id)


_SESSION_COLUMNS = [
    attribute.key
    for attribute in inspect(AudioSession).column_attrs
    if not attribute.columns[0].computed
]
_TO_PROCESS = CompiledStatement(
    select(
        *(getattr(AudioSession, name) for name in _SESSION_COLUMNS),
        select(Promotion.model_id)
        .order_by(Promotion.id.desc())
        .limit(literal_column("1"))
        .scalar_subquery()
        .label("promoted_model_id"),
    ).where(AudioSession.id == bindparam("session_id", type_=Uuid))
)


def session_version(tx: Session, session_id: uuid.UUID) -> str | None:
    """Return a version token that changes whenever the session's row changes; None without a row.

    It is the ``xmin`` of the row and of its work: the cheapest check that misses nothing, since
    everything shown of a session is written together with one of them.
    """
    of_work = func.coalesce(literal_column("'.' || unfinished_sessions.xmin::text", Text), "")
    return tx.execute(
        select(literal_column("audio_sessions.xmin::text").concat(of_work))
        .outerjoin_from(
            AudioSession, UnfinishedSession, UnfinishedSession.session_id == AudioSession.id
        )
        .where(AudioSession.id == session_id)
    ).scalar_one_or_none()


def clock(tx: Session) -> datetime:
    """Return the current time by the database's clock."""
    now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
    return now


def note_share(tx: Session, work: SessionWork, *, attempt: int, share: float) -> bool:
    """Write the share of a session's stage that is done; False if the claim was lost."""
    grows = UnfinishedSession.stage_share < share
    return claims.update_held(
        tx,
        work,
        attempt,
        {
            "stage_share": func.greatest(UnfinishedSession.stage_share, share),
            "stage_told_at": case(
                (grows, func.clock_timestamp()), else_=UnfinishedSession.stage_told_at
            ),
        },
    )


def note_brought(
    tx: Session, work: SessionWork, *, attempt: int, key: str, size_bytes: int, file_name: str
) -> bool:
    """Record the key, size and name of a fetched recording; False if the claim was lost."""
    held = (
        select(UnfinishedSession.session_id)
        .where(claims.held(work, attempt))
        .with_for_update(key_share=True)
        .cte()
    )
    return claims.changed(
        tx.execute(
            update(AudioSession)
            .where(AudioSession.id == held.c.session_id)
            .values(
                recording_key=key,
                size_bytes=size_bytes,
                file_name=file_name,
                source_url=SOURCE_ADDRESS,
            ),
            execution_options={"synchronize_session": False},
        )
    )


class ServedAudio(NamedTuple):
    """The audio of a session that may be used for training, and its option ``channel``."""

    key: str | None
    channel: str


def served_audio(tx: Session, session_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, ServedAudio]:
    """Return the audio of some sessions that may be used for training."""
    rows = tx.execute(
        select(AudioSession.id, AudioSession.served_key, AudioSession.channel).where(
            AudioSession.id.in_(list(session_ids))
        )
    )
    return {session_id: ServedAudio(key, channel) for session_id, key, channel in rows}


def cancel_session(tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> bool:
    """Cancel an unfinished session; False if there was nothing to cancel."""
    of_owner = exists().where(AudioSession.id == session_id, is_of(AudioSession, owner))
    which = and_(UnfinishedSession.session_id == session_id, of_owner)
    return bool(session_moves.move(tx, which, to="cancelled"))


def waited_for_backbone_s(tx: Session, session_id: uuid.UUID) -> float:
    """Return how long a session has waited for a worker with its backbone, in seconds."""
    waited = func.clock_timestamp() - UnfinishedSession.backbone_missed_at
    found = tx.execute(
        select(func.extract("epoch", waited)).where(UnfinishedSession.session_id == session_id)
    ).scalar_one_or_none()
    return float(found or 0.0)


# --- detections --------------------------------------------------------------------------------


class NewDetectionRow(TypedDict):
    """The columns of a new detection, besides its session and its index."""

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: NotRequired[float | None]
    lafmax_db: NotRequired[float | None]
    lae_db: NotRequired[float | None]
    lasmax_db: NotRequired[float | None]
    lcpeak_db: NotRequired[float | None]
    background_la90_db: NotRequired[float | None]
    emergence_db: NotRequired[float | None]
    above_background_s: NotRequired[float | None]
    overloaded: NotRequired[bool | None]
    third_octaves_db: NotRequired[Sequence[float | None] | None]
    candidates: NotRequired[Sequence[StoredCandidate]]


def add_detections(tx: Session, session_id: uuid.UUID, events: Sequence[NewDetectionRow]) -> None:
    """Add the detections of a session, all of them at once, with its owner and their times."""
    if not events:
        return
    rows = [
        {"session_id": session_id, "event_index": index, **event}
        for index, event in enumerate(events)
    ]
    for names, alike in itertools.groupby(rows, tuple):
        _adding_detections(names).run_for_each(tx, list(alike))


@lru_cache
def _adding_detections(names: tuple[str, ...]) -> CompiledStatement:
    columns = NoiseDetection.__table__.columns
    row: dict[str, ColumnElement[Any]] = {
        name: bindparam(name, type_=columns[name].type) for name in names
    }
    after = func.make_interval(0, 0, 0, 0, 0, 0, row["start_s"])
    owner = AudioSession.__table__.c.user_id
    row |= {"user_id": owner, "heard_at": AudioSession.recorded_at + after}
    of_session = select(*row.values()).where(AudioSession.id == row["session_id"])
    return CompiledStatement(insert(NoiseDetection).from_select(list(row), of_session))


# --- metrics -----------------------------------------------------------------------------------


class StepRun(NamedTuple):
    """One run of a step."""

    step: str
    result: str
    duration_s: float
    span_index: int | None = None


def add_runs(tx: Session, work: WorkItem, runs: Sequence[StepRun], *, attempt: int) -> None:
    """Add the metrics of the runs of one claim.

    Work does not fail for want of a partition, which the health check reports: then there are no
    metrics.
    """
    named = work.names | {"attempt": attempt}
    lists = dict(zip(_LISTS, map(list, zip(*runs, strict=True)), strict=True))
    _adding_runs(tuple(named)).run(tx, **named | lists)


_LISTS = [f"{name}_of_each" for name in StepRun._fields]


@lru_cache
def _adding_runs(names: tuple[str, ...]) -> CompiledStatement:
    columns = ProcessingMetric.__table__.columns
    lists = [
        bindparam(key, type_=ARRAY(columns[name].type))
        for key, name in zip(_LISTS, StepRun._fields, strict=True)
    ]
    run = func.unnest(*lists).table_valued(*StepRun._fields, name="run").render_derived()
    row: dict[str, ColumnElement[Any]] = {
        name: bindparam(name, type_=columns[name].type) for name in names
    }
    row |= {name: run.c[name] for name in StepRun._fields}
    values = select(*row.values()).select_from(run)
    possible = values.where(partition_queries.is_partitioned_now(partition_queries.METRICS))
    return CompiledStatement(insert(ProcessingMetric).from_select(list(row), possible))


# --- recovery ----------------------------------------------------------------------------------

#: The advisory lock of recovery: an arbitrary number, the same in every process.
RECOVERY_LOCK = 0x636C616D6F72


def try_recovery_lock(tx: Session) -> bool:
    """Take the recovery lock until the end of the transaction; False if it is taken."""
    return bool(tx.execute(select(func.pg_try_advisory_xact_lock(RECOVERY_LOCK))).scalar_one())


def known_ids(
    tx: Session,
    column: InstrumentedAttribute[uuid.UUID],
    ids: Iterable[uuid.UUID],
    *,
    where: ColumnElement[bool] | None = None,
) -> set[uuid.UUID]:
    """Return those of some IDs that a column contains, in the rows selected by ``where``."""
    asked = true() if where is None else where
    return set(tx.scalars(select(column).where(column.in_(list(ids)), asked)))


def oldest_unfinished_s(tx: Session) -> float | None:
    """Return the age of the oldest unfinished session in seconds, or None."""
    oldest = func.min(UnfinishedSession.created_at)
    age = tx.execute(select(func.extract("epoch", func.clock_timestamp() - oldest))).scalar_one()
    return None if age is None else float(age)
