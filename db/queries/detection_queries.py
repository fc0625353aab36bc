"""Queries for the detections of all sessions: one, a page of them, and their sums.

A filter that is None or empty matches everything.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Row,
    Select,
    Text,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session, undefer
from sqlalchemy.sql.elements import ColumnElement

from db.queries import session_queries
from db.queries.paging import Keys, Order, Page, one_of, orders, within
from db.tables.base import JsonObject
from db.tables.detections import NoiseDetection
from db.tables.sessions import AudioSession

#: The newest session first, and its last detection first.
NEWEST_SESSION = Order(
    (AudioSession.created_at, AudioSession.id, NoiseDetection.event_index), descending=True
)
ORDERS = {"-created_at": NEWEST_SESSION} | orders(
    {"heard_at": NoiseDetection.heard_at}, NoiseDetection.id, nullable=("heard_at",)
)


class DetectionView(NamedTuple):
    """What is shown of a detection. Its candidates are JSON, which the API decodes directly.

    Many are read at once, and a tuple takes half the time of an object of the table's class.
    """

    id: uuid.UUID
    heard_at: datetime | None
    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    lae_db: float | None
    lasmax_db: float | None
    lcpeak_db: float | None
    background_la90_db: float | None
    emergence_db: float | None
    above_background_s: float | None
    overloaded: bool | None
    candidates: str
    third_octaves_db: list[float | None] | None


#: The columns of `DetectionView` but the last, which is read on request only.
DETECTION_VIEW: Sequence[ColumnElement[Any]] = [
    *(getattr(NoiseDetection, name) for name in DetectionView._fields[:-2]),
    cast(NoiseDetection.candidates, Text),
]


def matching(noise_types: Sequence[str], min_confidence: float | None) -> list[ColumnElement[bool]]:
    """Return the conditions of detections of some types with enough confidence."""
    wanted = one_of(NoiseDetection.noise_type, noise_types)
    if min_confidence is not None:
        wanted.append(NoiseDetection.confidence >= min_confidence)
    return wanted


def with_metadata(metadata: JsonObject | None) -> list[ColumnElement[bool]]:
    """Return the conditions of sessions whose metadata contain some entries."""
    if not metadata:
        return []
    # The index is partial; Postgres only uses it if the query repeats its condition.
    return [
        AudioSession.user_metadata.contains(metadata),
        literal_column("audio_sessions.user_metadata <> '{}'", type_=Boolean),
    ]


@dataclass(frozen=True, kw_only=True)
class DetectionFilter:
    """Filters of detections and their sessions."""

    #: The user whose detections are found; None for those of all users.
    owner: uuid.UUID | None
    noise_types: Sequence[str] = ()
    min_confidence: float | None = None
    min_laeq_db: float | None = None
    heard: tuple[datetime | None, datetime | None] = (None, None)
    created: tuple[datetime | None, datetime | None] = (None, None)
    session_ids: Sequence[uuid.UUID] = ()
    metadata: JsonObject | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions of a join of detections and their sessions."""
        where = [
            # Both, so that an index of either table can be used.
            session_queries.is_of(NoiseDetection, self.owner),
            session_queries.is_of(AudioSession, self.owner),
            *matching(self.noise_types, self.min_confidence),
            *within(NoiseDetection.heard_at, *self.heard),
            *within(AudioSession.created_at, *self.created),
            *with_metadata(self.metadata),
        ]
        if self.min_laeq_db is not None:
            where.append(NoiseDetection.laeq_db >= self.min_laeq_db)
        if self.session_ids:
            where.append(NoiseDetection.session_id.in_(self.session_ids))
        return where


def _found() -> Select[*tuple[Any, ...]]:
    return select(NoiseDetection, AudioSession.file_name, AudioSession.calibration_db).join(
        AudioSession, AudioSession.id == NoiseDetection.session_id
    )


def detections(
    tx: Session,
    wanted: DetectionFilter,
    *,
    order: Order,
    after: Keys | None,
    limit: int,
    third_octaves: bool = False,
) -> Page[Row[Any]]:
    """Return a page of detections, with file name and calibration of their sessions.

    Their ``third_octaves_db`` can only be used if they are requested.
    """
    statement = _found().where(*wanted.conditions())
    if third_octaves:
        statement = statement.options(undefer(NoiseDetection.third_octaves_db))
    return order.page(tx, statement, after=after, limit=limit)


def get_detection(
    tx: Session, detection_id: uuid.UUID, *, owner: uuid.UUID | None
) -> Row[Any] | None:
    """Return a detection as in a page, with its third octaves, or None; with an owner only if it is
    theirs.
    """
    return tx.execute(
        _found()
        .where(NoiseDetection.id == detection_id, session_queries.is_of(AudioSession, owner))
        .options(undefer(NoiseDetection.third_octaves_db))
    ).one_or_none()


class UnknownTimeZone(ValueError):
    """Postgres does not have a time zone of this name."""


#: The SQLSTATE of an unknown time zone, among others.
_INVALID_PARAMETER = "22023"


_QUARTER: ColumnElement[timedelta] = literal_column("interval '15 minutes'")
_EPOCH: ColumnElement[datetime] = literal_column("timestamptz 'epoch'")


class DetectionSum(NamedTuple):
    """The detections of an hour, a day or a type whose levels have one reference."""

    #: When the hour or the day begins, or the type.
    key: datetime | str
    is_calibrated: bool
    events: int
    total_s: float
    #: Energy mean over their duration; null if all are digital silence.
    laeq_db: float | None
    lafmax_db: float | None


def sums(
    tx: Session, wanted: DetectionFilter, *, by: Literal["hour", "day", "type"], time_zone: str
) -> list[DetectionSum]:
    """Return the sums of detections by the hour or day of their onset, or by their type, in order.

    Hours and days are those of a time zone. One without detections is not returned. The time zone
    is set for the transaction, which must not be one of autocommit.

    Raises
    ------
    UnknownTimeZone
    """
    _set_time_zone(tx, time_zone)
    summed = _summed(wanted, by).subquery().c
    key = summed.part if by == "type" else func.date_trunc(by, summed.part)
    statement = (
        select(
            key,
            summed.is_calibrated,
            cast(func.sum(summed.events), BigInteger),
            func.sum(summed.total_s),
            10.0 * func.log(func.sum(summed.energy) / func.sum(summed.total_s)),
            func.max(summed.lafmax_db),
        )
        .group_by(literal_column("1"), literal_column("2"))
        .order_by(literal_column("1"), literal_column("2"))
    )
    return [DetectionSum(*row) for row in tx.execute(statement)]


def _set_time_zone(tx: Session, name: str) -> None:
    """Let a transaction compute in a time zone.

    As an argument of a function, a name such as CET would be the abbreviation of an offset, without
    summer time.
    """
    try:
        tx.execute(select(func.set_config("TimeZone", name, True)))
    except DataError as error:
        # Postgres and Python may have different editions of the zones.
        if getattr(error.orig, "sqlstate", None) == _INVALID_PARAMETER:
            raise UnknownTimeZone(name) from error
        raise


def _summed(
    wanted: DetectionFilter, by: Literal["hour", "day", "type"]
) -> Select[*tuple[Any, ...]]:
    """Return the sums by type, or by quarters of an hour."""
    length_s = NoiseDetection.end_s - NoiseDetection.start_s
    part: ColumnElement[Any] = NoiseDetection.noise_type.expression
    if by != "type":
        # Quarters of an hour divide the hours of every time zone of today, and converting a few of
        # them takes less than converting the time of each detection.
        part = func.date_bin(_QUARTER, NoiseDetection.heard_at, _EPOCH)
    return (
        select(
            part.label("part"),
            AudioSession.calibration_db.is_not(None).label("is_calibrated"),
            func.count().label("events"),
            func.sum(length_s).label("total_s"),
            # Null if all are digital silence, which has no level, and no energy.
            func.sum(length_s * func.power(10.0, NoiseDetection.laeq_db / 10.0)).label("energy"),
            func.max(NoiseDetection.lafmax_db).label("lafmax_db"),
        )
        .join(AudioSession, AudioSession.id == NoiseDetection.session_id)
        .where(*wanted.conditions())
        .group_by(literal_column("1"), literal_column("2"))
    )
