"""Queries for the figures of daily reports."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ARRAY,
    Double,
    and_,
    cast,
    func,
    literal,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries import session_queries
from db.queries.report_queries import LONGEST, began_at
from db.tables.base import StoredHole
from db.tables.detections import NoiseDetection
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession

_BEGUN_S: ColumnElement[float] = cast(func.extract("epoch", began_at), Double)
_HAS_EVENTS = AudioSession.state.in_(("completed", "partial"))


class StateCount(NamedTuple):
    """The sessions of one state in the interval ``at``, of which the first one is 1."""

    at: int
    state: str
    sessions: int
    audio_s: float
    #: How many of them have no time of recording.
    without_time: int


def sessions_by_state(
    tx: Session, user_id: uuid.UUID | None, edges_s: Sequence[float]
) -> list[StateCount]:
    """Return the sessions between consecutive times."""
    at = func.width_bucket(_BEGUN_S, _array(edges_s)).label("at")
    rows = tx.execute(
        select(
            at,
            AudioSession.state,
            func.count().label("sessions"),
            func.coalesce(func.sum(SessionResult.duration_s), 0.0).label("audio_s"),
            func.count().filter(AudioSession.recorded_at.is_(None)).label("without_time"),
        )
        .outerjoin(AudioSession.result)
        .where(_begun_within(edges_s[0], edges_s[-1]), session_queries.is_of(AudioSession, user_id))
        .group_by(literal_column("1"), AudioSession.state)
    )
    return [StateCount(*row) for row in rows]


class TypeCount(NamedTuple):
    """The detections of one type in the interval ``at``, of which the first one is 1."""

    at: int
    noise_type: str
    events: int
    total_s: float


def events_by_type(
    tx: Session, user_id: uuid.UUID | None, edges_s: Sequence[float]
) -> list[TypeCount]:
    """Return the detections between consecutive times."""
    begun_s = _BEGUN_S + NoiseDetection.start_s
    at = func.width_bucket(begun_s, _array(edges_s)).label("at")
    length_s = NoiseDetection.end_s - NoiseDetection.start_s
    rows = tx.execute(
        select(
            at,
            NoiseDetection.noise_type,
            func.count().label("events"),
            func.sum(length_s).label("total_s"),
        )
        .join(AudioSession, AudioSession.id == NoiseDetection.session_id)
        .where(
            _may_reach_into(edges_s[0], edges_s[-1]),
            session_queries.is_of(AudioSession, user_id),
            begun_s >= edges_s[0],
            begun_s < edges_s[-1],
        )
        .group_by(literal_column("1"), NoiseDetection.noise_type)
    )
    return [TypeCount(*row) for row in rows]


class RecordedLevels(NamedTuple):
    """The levels of a recording, by quarters of an hour."""

    #: Seconds since 1970.
    begin_s: float
    duration_s: float
    calibration_db: float | None
    #: Not calibrated.
    quarter_mean_squares: Sequence[float]
    quarter_overloads: list[float] | None
    quarter_overload_energies: list[float] | None
    #: In order; null if the code that split the recording did not look for them.
    holes: list[StoredHole] | None


def levels_of(
    tx: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float
) -> list[RecordedLevels]:
    """Return the levels of recordings with a known time that may overlap an interval."""
    rows = tx.execute(
        select(
            _BEGUN_S.label("begin_s"),
            # Never null where the levels are not.
            type_coerce(SessionResult.duration_s, Double),
            AudioSession.calibration_db,
            type_coerce(AudioSession.quarter_mean_squares, ARRAY(Double)),
            AudioSession.quarter_overloads,
            AudioSession.quarter_overload_energies,
            AudioSession.holes,
        )
        .join(AudioSession.result)
        .where(
            _may_reach_into(begin_s, end_s),
            session_queries.is_of(AudioSession, user_id),
            _HAS_EVENTS,
            AudioSession.quarter_mean_squares.is_not(None),
        )
    )
    return [RecordedLevels(*row) for row in rows]


class ProblemCount(NamedTuple):
    """The sessions with one problem."""

    code: str
    sessions: int


def problems(
    tx: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float
) -> list[ProblemCount]:
    """Return the problems of an interval's sessions, the most frequent first."""
    code = AudioSession.problem["code"].astext.label("code")
    rows = tx.execute(
        select(code, func.count().label("sessions"))
        .where(
            _begun_within(begin_s, end_s),
            session_queries.is_of(AudioSession, user_id),
            func.jsonb_typeof(AudioSession.problem) == "object",
        )
        .group_by(code)
        .order_by(literal_column("2").desc(), code)
    )
    return [ProblemCount(*row) for row in rows]


class Latency(NamedTuple):
    """The latency of some sessions, from upload to answer; None without any sessions."""

    sessions: int
    p50_s: float | None
    p95_s: float | None
    #: The median ratio of duration to latency.
    times_real_time_p50: float | None


def latency(tx: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float) -> Latency:
    """Return the latency of an interval's sessions."""
    took = SessionResult.finished_at - SessionResult.created_at
    took_s = cast(func.extract("epoch", took), Double)
    speed = SessionResult.duration_s / func.nullif(took_s, 0)
    row = tx.execute(
        select(
            func.count().label("sessions"),
            func.percentile_cont(0.5).within_group(took_s).label("p50_s"),
            func.percentile_cont(0.95).within_group(took_s).label("p95_s"),
            func.percentile_cont(0.5).within_group(speed).label("times_real_time_p50"),
        )
        .join_from(AudioSession, SessionResult)
        .where(
            _begun_within(begin_s, end_s), session_queries.is_of(AudioSession, user_id), _HAS_EVENTS
        )
    ).one()
    return Latency(*row)


def _array(edges_s: Sequence[float]) -> ColumnElement[Sequence[float]]:
    return literal(list(edges_s), ARRAY(Double))


def _time(seconds: float) -> ColumnElement[datetime]:
    return func.to_timestamp(seconds)


def _begun_within(begin_s: float, end_s: float) -> ColumnElement[bool]:
    return and_(began_at >= _time(begin_s), began_at < _time(end_s))


def _may_reach_into(begin_s: float, end_s: float) -> ColumnElement[bool]:
    return and_(began_at >= _time(begin_s) - LONGEST, began_at < _time(end_s))
