"""The query for a session as the API shows it, which is the most frequent one."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Text, Uuid, bindparam, case, cast, func, literal_column, or_, select

from db.queries.session_queries import SOURCE_ADDRESS
from db.store import CompiledQuery, Store
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import UnfinishedSession

_FAILED = (
    select(func.count())
    .select_from(SessionSpan)
    .where(SessionSpan.session_id == AudioSession.id, literal_column("state = 'failed'"))
)
#: Sessions with the columns that the API shows or computes from. JSON columns are returned as text,
#: which the API decodes directly into its response types.
SESSION_VIEW: Select[*tuple[Any, ...]] = select(
    AudioSession.id,
    AudioSession.state,
    AudioSession.file_name,
    AudioSession.size_bytes,
    AudioSession.container,
    AudioSession.codec,
    AudioSession.rate_hz,
    AudioSession.n_channels,
    SessionResult.duration_s,
    AudioSession.calibration_db,
    AudioSession.calibration_tone_db,
    AudioSession.bands,
    AudioSession.noise_floor_db,
    AudioSession.channel,
    AudioSession.model_id,
    AudioSession.types,
    AudioSession.privacy,
    AudioSession.audio_removed_at,
    AudioSession.recorded_at,
    AudioSession.recorded_at_from,
    AudioSession.recorded_at_zone,
    AudioSession.time_zone,
    AudioSession.priority,
    AudioSession.batch_id,
    AudioSession.webhook_id,
    AudioSession.spans_total,
    func.coalesce(UnfinishedSession.spans_finished, AudioSession.spans_finished).label(
        "spans_finished"
    ),
    func.coalesce(UnfinishedSession.stage_share, literal_column("0")).label("stage_share"),
    UnfinishedSession.stage_since,
    UnfinishedSession.stage_told_at,
    func.coalesce(UnfinishedSession.waits_for_storage, literal_column("false")).label(
        "waits_for_storage"
    ),
    AudioSession.created_at,
    func.coalesce(UnfinishedSession.started_at, AudioSession.started_at).label("started_at"),
    SessionResult.finished_at,
    SOURCE_ADDRESS.label("source_url"),
    cast(AudioSession.thresholds, Text).label("thresholds"),
    cast(AudioSession.user_metadata, Text).label("metadata"),
    cast(AudioSession.summary, Text).label("summary"),
    cast(AudioSession.problem, Text).label("problem"),
    # The spans of most sessions need not be read: none of a completed one failed.
    case(
        (literal_column("audio_sessions.state = 'completed'"), literal_column("0")),
        else_=_FAILED.scalar_subquery(),
    ).label("spans_failed"),
    func.clock_timestamp().label("now"),
)
SESSION_VIEW = SESSION_VIEW.outerjoin(
    UnfinishedSession, UnfinishedSession.session_id == AudioSession.id
).outerjoin(SessionResult, SessionResult.session_id == AudioSession.id)
_OWNER = bindparam("owner", type_=Uuid)


class SessionView(NamedTuple):
    """The values of `SESSION_VIEW`."""

    id: uuid.UUID
    state: str
    file_name: str
    size_bytes: int | None
    container: str | None
    codec: str | None
    rate_hz: int | None
    n_channels: int | None
    duration_s: float | None
    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    noise_floor_db: float | None
    channel: str
    model_id: uuid.UUID | None
    types: list[str]
    privacy: str
    audio_removed_at: datetime | None
    recorded_at: datetime | None
    recorded_at_from: str | None
    recorded_at_zone: str | None
    time_zone: str | None
    priority: int
    batch_id: uuid.UUID | None
    webhook_id: uuid.UUID | None
    spans_total: int
    spans_finished: int
    stage_share: float
    stage_since: datetime | None
    stage_told_at: datetime | None
    waits_for_storage: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    source_url: str | None
    thresholds: str
    metadata: str
    summary: str | None
    problem: str | None
    spans_failed: int
    now: datetime


_SESSION = CompiledQuery(
    SESSION_VIEW.where(
        AudioSession.id == bindparam("session_id"),
        or_(_OWNER.is_(None), AudioSession.user_id == _OWNER),
    ),
    SessionView,
)


def session_view(
    store: Store, session_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> SessionView | None:
    """Return the shown columns of a session, or None; with an owner only if it is theirs."""
    return store.ask(_SESSION, session_id=session_id, owner=owner)
