"""Every question about exports, and the events that go into one, page by page.

Pages are found by keys, each in a transaction of its own: no snapshot is held while a large file is
written, which would keep VACUUM from its work.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, literal, select, tuple_
from sqlalchemy.orm import Session

from db.queries.session_queries import is_of
from db.tables.exports import Export
from db.tables.sessions import AudioSession, NoiseDetection

#: No user has this id.
NOBODY = uuid.UUID(int=0)
#: In which states a session has an answer that may be exported.
ANSWERED = ("completed", "partial")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Of which sessions which events. What is None or empty lets everything through."""

    owner: uuid.UUID | None
    session_ids: Sequence[uuid.UUID] = ()
    batch_id: uuid.UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    states: Sequence[str] = field(default=ANSWERED)
    noise_types: Sequence[str] = ()
    min_confidence: float | None = None

    @classmethod
    def of(cls, row: Export) -> Selection:
        """What an export is of."""
        told: dict[str, Any] = dict(row.selection)
        for name in ("created_from", "created_to"):
            if told.get(name) is not None:
                told[name] = datetime.fromisoformat(told[name])
        if told.get("batch_id") is not None:
            told["batch_id"] = uuid.UUID(told["batch_id"])
        told["session_ids"] = [uuid.UUID(each) for each in told.get("session_ids") or ()]
        told["states"] = told.get("states") or ANSWERED
        # Whose user is gone is of nobody, and not of everybody.
        return cls(owner=None if row.all_users else row.user_id or NOBODY, **told)

    def sessions(self) -> list[ColumnElement[bool]]:
        """True of a session that is meant."""
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
        """True of an event that is meant."""
        where: list[ColumnElement[bool]] = []
        if self.noise_types:
            where.append(NoiseDetection.noise_type.in_(self.noise_types))
        if self.min_confidence is not None:
            where.append(NoiseDetection.confidence >= self.min_confidence)
        return where


# --- what goes into one ------------------------------------------------------------------------

#: Behind which session a page begins.
Place = tuple[datetime, uuid.UUID]


def count_sessions(db: Session, selection: Selection) -> int:
    """Of how many sessions an export is."""
    statement = select(func.count()).select_from(AudioSession).where(*selection.sessions())
    return db.execute(statement).scalar_one()


def sessions_behind(
    db: Session, selection: Selection, after: Place | None, *, limit: int
) -> Sequence[Row[Any]]:
    """The next sessions of an export, the oldest first."""
    statement: Select[*tuple[Any, ...]] = select(
        AudioSession.id, AudioSession.file_name, AudioSession.created_at, AudioSession.recorded_at,
        AudioSession.rate_hz, AudioSession.calibration_db, AudioSession.served_key,
    ).where(*selection.sessions())  # fmt: skip
    keys = (AudioSession.created_at, AudioSession.id)
    if after is not None:
        place = tuple_(
            *(literal(key, column.type) for column, key in zip(keys, after, strict=True))
        )
        statement = statement.where(tuple_(*keys) > place)
    return db.execute(statement.order_by(*keys).limit(limit)).all()


def count_events(
    db: Session, selection: Selection, session_ids: Collection[uuid.UUID]
) -> Mapping[uuid.UUID, int]:
    """How many events of each of some sessions are meant; a session without any is not named."""
    rows = db.execute(
        select(NoiseDetection.session_id, func.count())
        .where(NoiseDetection.session_id.in_(session_ids), *selection.events())
        .group_by(NoiseDetection.session_id)
    )
    return dict(rows.all())


def _events(selection: Selection, *, with_candidates: bool) -> Select[*tuple[Any, ...]]:
    columns: list[Any] = [
        NoiseDetection.event_index, NoiseDetection.start_s, NoiseDetection.end_s,
        NoiseDetection.noise_type, NoiseDetection.confidence, NoiseDetection.laeq_db,
        NoiseDetection.lafmax_db,
    ]  # fmt: skip
    if with_candidates:
        columns.append(NoiseDetection.candidates)
    return select(*columns).where(*selection.events())


def events_of(
    db: Session,
    selection: Selection,
    session_ids: Collection[uuid.UUID],
    *,
    with_candidates: bool = False,
) -> Mapping[uuid.UUID, list[Row[Any]]]:
    """The events of some sessions that have few, in the order of their onsets."""
    statement = _events(selection, with_candidates=with_candidates)
    found: dict[uuid.UUID, list[Row[Any]]] = {session_id: [] for session_id in session_ids}
    rows = db.execute(
        statement.add_columns(NoiseDetection.session_id)
        .where(NoiseDetection.session_id.in_(session_ids))
        .order_by(NoiseDetection.session_id, NoiseDetection.event_index)
    )
    for row in rows:
        found[row.session_id].append(row)
    return found


def events_behind(
    db: Session,
    selection: Selection,
    session_id: uuid.UUID,
    after: int,
    *,
    limit: int,
    with_candidates: bool = False,
) -> Sequence[Row[Any]]:
    """The next events of one session, behind the one with an index."""
    return db.execute(
        _events(selection, with_candidates=with_candidates)
        .where(NoiseDetection.session_id == session_id, NoiseDetection.event_index > after)
        .order_by(NoiseDetection.event_index)
        .limit(limit)
    ).all()


# --- exports -----------------------------------------------------------------------------------


def add_export(db: Session, **values: Any) -> Export:
    """Write down an export to be made."""
    return db.execute(
        insert(Export).values(state="pending", **values).returning(Export)
    ).scalar_one()


def shown_to(owner: uuid.UUID | None) -> list[ColumnElement[bool]]:
    """Whether an export may be seen by an owner: one that an administrator's key asked for may be
    of everybody's sessions, and is not for other keys of the same user."""
    return [] if owner is None else [is_of(Export, owner), ~Export.all_users]


def get_export(
    db: Session, export_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> Export | None:
    """One export, as it stands; with an owner only if it is theirs."""
    return db.scalars(select(Export).where(Export.id == export_id, *shown_to(owner))).one_or_none()


def remove_export(db: Session, export_id: uuid.UUID, *, owner: uuid.UUID | None) -> bool:
    """Forget an export; False if there is none. Whoever works on it loses the claim."""
    removed = _remove(db, Export.id == export_id, *shown_to(owner))
    return bool(removed)


def remove_of_sessions(db: Session, session_ids: Collection[uuid.UUID]) -> list[uuid.UUID]:
    """Forget the exports that are of one of some sessions alone."""
    return _remove(db, Export.session_id.in_(session_ids)) if session_ids else []


def remove_expired(db: Session, *, limit: int) -> list[uuid.UUID]:
    """Forget some exports whose time is over."""
    expired = (
        select(Export.id)
        # The transaction's time, up to which an index is read; no index is up to the clock's.
        .where(Export.expires_at <= func.now())
        .order_by(Export.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _remove(db, Export.id.in_(expired))


def needed_keys(db: Session, folders: Mapping[uuid.UUID, Sequence[str]]) -> set[str]:
    """Which of the blobs in the folders of some exports are needed: the file, and while there is
    none whatever somebody may be writing."""
    rows = db.execute(select(Export.id, Export.blob_key).where(Export.id.in_(list(folders)))).all()
    return {
        key for export_id, blob_key in rows for key in folders[export_id] if blob_key in (None, key)
    }


def _remove(db: Session, *which: ColumnElement[bool]) -> list[uuid.UUID]:
    return list(
        db.scalars(
            delete(Export).where(*which).returning(Export.id),
            execution_options={"synchronize_session": False},
        )
    )
