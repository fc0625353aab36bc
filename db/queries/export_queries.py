"""Queries for exports, and for the detections of one, page by page.

Pages are found by keys, each in a separate transaction: a snapshot held while a large file is
written would obstruct VACUUM.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, NotRequired, TypedDict, Unpack

from sqlalchemy import ColumnElement, Select, delete, func, insert, literal, select, tuple_
from sqlalchemy.orm import Session

from db import typed
from db.queries.model_queries import JobDone
from db.queries.session_queries import is_of
from db.tables.detections import NoiseDetection, StoredCandidate
from db.tables.exports import CLIP, Export, StoredSelection
from db.tables.sessions import AudioSession

#: An ID that no user has.
NO_USER = uuid.UUID(int=0)
#: The states of sessions with an answer to export.
ANSWERED = ("completed", "partial")


@dataclass(frozen=True, kw_only=True)
class DetectionSelection:
    """Filters for sessions and their detections. None or empty means no filter."""

    owner: uuid.UUID | None
    session_ids: Sequence[uuid.UUID] = ()
    batch_id: uuid.UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    states: Sequence[str] = field(default=ANSWERED)
    noise_types: Sequence[str] = ()
    min_confidence: float | None = None
    detection_id: uuid.UUID | None = None

    @classmethod
    def of(cls, row: Export) -> DetectionSelection:
        """Return the selection of an export."""
        # An export whose user was removed covers no sessions, rather than all.
        owner = None if row.all_users else row.user_id or NO_USER
        detection_id = row.id if row.format == CLIP else None
        return typed.convert({**row.selection, "owner": owner, "detection_id": detection_id}, cls)

    def sessions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the selected sessions."""
        where = [is_of(AudioSession, self.owner), AudioSession.state.in_(self.states)]
        if self.session_ids:
            where.append(AudioSession.id.in_(self.session_ids))
        if self.batch_id is not None:
            where.append(AudioSession.batch_id == self.batch_id)
        if self.created_from is not None:
            where.append(AudioSession.created_at >= self.created_from)
        if self.created_to is not None:
            where.append(AudioSession.created_at < self.created_to)
        return where

    def events(self) -> list[ColumnElement[bool]]:
        """Return the conditions of the selected detections."""
        where: list[ColumnElement[bool]] = []
        if self.noise_types:
            where.append(NoiseDetection.noise_type.in_(self.noise_types))
        if self.min_confidence is not None:
            where.append(NoiseDetection.confidence >= self.min_confidence)
        if self.detection_id is not None:
            where.append(NoiseDetection.id == self.detection_id)
        return where


# --- the content of an export ------------------------------------------------------------------

#: The session after which a page begins.
Place = tuple[datetime, uuid.UUID]


class ExportedSession(NamedTuple):
    """A session of an export.

    ``served_key`` is the audio to cut clips from, if there is any. ``used`` are the indices of the
    channels that were analysed; None if that is unknown.
    """

    id: uuid.UUID
    file_name: str
    created_at: datetime
    recorded_at: datetime | None
    rate_hz: int | None
    used: Sequence[int] | None
    calibration_db: float | None
    served_key: str | None


class ExportedEvent(NamedTuple):
    """A detection of an export; ``candidates`` is empty unless requested."""

    event_index: int
    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    lae_db: float | None = None
    lasmax_db: float | None = None
    lcpeak_db: float | None = None
    background_la90_db: float | None = None
    emergence_db: float | None = None
    above_background_s: float | None = None
    overloaded: bool | None = None
    candidates: Sequence[StoredCandidate] = ()


def count_sessions(tx: Session, selection: DetectionSelection) -> int:
    """Count the sessions of an export."""
    statement = select(func.count()).select_from(AudioSession).where(*selection.sessions())
    return tx.execute(statement).scalar_one()


def sessions_behind(
    tx: Session, selection: DetectionSelection, after: Place | None, *, limit: int
) -> list[ExportedSession]:
    """Return the next sessions of an export, the oldest first."""
    statement = select(
        AudioSession.id,
        AudioSession.file_name,
        AudioSession.created_at,
        AudioSession.recorded_at,
        AudioSession.rate_hz,
        AudioSession.totals["used"],
        AudioSession.calibration_db,
        AudioSession.served_key,
    ).where(*selection.sessions())
    keys = (AudioSession.created_at, AudioSession.id)
    if after is not None:
        place = tuple_(
            *(literal(key, column.type) for column, key in zip(keys, after, strict=True))
        )
        statement = statement.where(tuple_(*keys) > place)
    rows = tx.execute(statement.order_by(*keys).limit(limit))
    return [ExportedSession(*row) for row in rows]


def count_events(
    tx: Session, selection: DetectionSelection, session_ids: Collection[uuid.UUID]
) -> Mapping[uuid.UUID, int]:
    """Count the selected detections of each session; sessions without any are omitted."""
    rows = tx.execute(
        select(NoiseDetection.session_id, func.count())
        .where(NoiseDetection.session_id.in_(session_ids), *selection.events())
        .group_by(NoiseDetection.session_id)
    )
    return dict(rows.all())


def _events(selection: DetectionSelection, *, with_candidates: bool) -> Select[*tuple[Any, ...]]:
    statement = select(
        NoiseDetection.event_index,
        NoiseDetection.start_s,
        NoiseDetection.end_s,
        NoiseDetection.noise_type,
        NoiseDetection.confidence,
        NoiseDetection.laeq_db,
        NoiseDetection.lafmax_db,
        NoiseDetection.lae_db,
        NoiseDetection.lasmax_db,
        NoiseDetection.lcpeak_db,
        NoiseDetection.background_la90_db,
        NoiseDetection.emergence_db,
        NoiseDetection.above_background_s,
        NoiseDetection.overloaded,
    ).where(*selection.events())
    return statement.add_columns(NoiseDetection.candidates) if with_candidates else statement


def events_of(
    tx: Session,
    selection: DetectionSelection,
    session_ids: Collection[uuid.UUID],
    *,
    with_candidates: bool = False,
) -> Mapping[uuid.UUID, list[ExportedEvent]]:
    """Return the detections of sessions with few of them, in the order of their onsets."""
    statement = _events(selection, with_candidates=with_candidates)
    found: dict[uuid.UUID, list[ExportedEvent]] = {session_id: [] for session_id in session_ids}
    rows = tx.execute(
        statement.add_columns(NoiseDetection.session_id)
        .where(NoiseDetection.session_id.in_(session_ids))
        .order_by(NoiseDetection.session_id, NoiseDetection.event_index)
    )
    for *values, session_id in rows:
        found[session_id].append(ExportedEvent(*values))
    return found


def events_behind(
    tx: Session,
    selection: DetectionSelection,
    session_id: uuid.UUID,
    after: int,
    *,
    limit: int,
    with_candidates: bool = False,
) -> list[ExportedEvent]:
    """Return the next detections of one session, after the one with the index ``after``."""
    rows = tx.execute(
        _events(selection, with_candidates=with_candidates)
        .where(NoiseDetection.session_id == session_id, NoiseDetection.event_index > after)
        .order_by(NoiseDetection.event_index)
        .limit(limit)
    )
    return [ExportedEvent(*row) for row in rows]


# --- exports -----------------------------------------------------------------------------------


class NewExportRow(TypedDict):
    """The columns of a new export."""

    id: uuid.UUID
    format: str
    selection: StoredSelection
    expires_at: datetime | ColumnElement[datetime]
    user_id: NotRequired[uuid.UUID | None]
    all_users: NotRequired[bool]
    traceparent: NotRequired[str | None]
    session_id: NotRequired[uuid.UUID | None]


class ExportDone(JobDone):
    """What an export writes at its end."""

    rows_written: int
    size_bytes: int
    blob_key: str


def add_export(tx: Session, **values: Unpack[NewExportRow]) -> Export:
    """Add an export to be written."""
    return tx.execute(
        insert(Export).values(state="pending", **values).returning(Export)
    ).scalar_one()


def shown_to(owner: uuid.UUID | None) -> list[ColumnElement[bool]]:
    """Return the conditions of exports that an owner may see.

    An export requested with an administrator's key may cover all users' sessions, and is not shown
    to other keys of the same user. Clips are not shown to anyone.
    """
    is_theirs = [] if owner is None else [is_of(Export, owner), ~Export.all_users]
    return [Export.format != CLIP, *is_theirs]


def get_export(tx: Session, export_id: uuid.UUID) -> Export | None:
    """Return an export, or None."""
    return tx.get(Export, export_id)


def shown_export(tx: Session, export_id: uuid.UUID, *, owner: uuid.UUID | None) -> Export | None:
    """Return an export that an owner may see, or None."""
    return tx.scalars(select(Export).where(Export.id == export_id, *shown_to(owner))).one_or_none()


def remove_expired(tx: Session, *, limit: int) -> list[uuid.UUID]:
    """Remove some expired exports; return their IDs."""
    expired = (
        select(Export.id)
        # now() is constant, so an index can be read up to it; clock_timestamp() is not.
        .where(Export.expires_at <= func.now())
        .order_by(Export.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    removed = tx.scalars(
        delete(Export).where(Export.id.in_(expired)).returning(Export.id),
        execution_options={"synchronize_session": False},
    )
    return list(removed)


def needed_keys(tx: Session, folders: Mapping[uuid.UUID, Sequence[str]]) -> set[str]:
    """Return the needed blobs in the folders of exports.

    These are the file of an export, or, until it has one, all blobs, as a worker may be writing
    them.
    """
    rows = tx.execute(select(Export.id, Export.blob_key).where(Export.id.in_(list(folders)))).all()
    return {
        key for export_id, blob_key in rows for key in folders[export_id] if blob_key in (None, key)
    }
