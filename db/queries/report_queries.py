"""Queries for daily reports and their figures.

A session belongs to the day on which its recording began, or, if that is unknown, on which it was
posted (`heard_at`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    Double,
    Row,
    ScalarSelect,
    Text,
    and_,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, defer
from sqlalchemy.sql.elements import ColumnElement

from db.queries import paging, session_queries
from db.queries.paging import Keys, Order, Page
from db.queue import claims
from db.tables.reports import DailyReport
from db.tables.sessions import AudioSession, NoiseDetection

#: When the recording of a session began, or else when it was posted; there is an index on it.
heard_at: ColumnElement[datetime] = func.coalesce(AudioSession.recorded_at, AudioSession.created_at)
#: The longest recording; one that began earlier does not reach into a day.
LONGEST: ColumnElement[Any] = literal_column("interval '24 hours'")
_BEGUN_S: ColumnElement[float] = cast(func.extract("epoch", heard_at), Double)
_HAS_EVENTS = AudioSession.state.in_(("completed", "partial"))

ORDERS = paging.orders({"created_at": DailyReport.created_at}, DailyReport.id)


# --- reports -----------------------------------------------------------------------------------


def ask_for_report(
    db: Session, *, id: uuid.UUID, day: date, time_zone: str, user_id: uuid.UUID | None,
    starts_at: datetime, ends_at: datetime, traceparent: str | None = None,
) -> uuid.UUID:  # fmt: skip
    """Request a report, new or again, unless it is pending already; return its ID.

    The attempts of a row that is requested again count from 1, so an earlier worker that was
    considered dead may still write. Therefore a report includes the version token of its sessions,
    which shows whether it is stale.
    """
    again = {
        **claims.UNTRIED, "state": "pending", "due_at": func.now(), "nudged_at": func.now(),
        "started_at": None, "finished_at": None, "percent": 0,
        "stage": "waiting", "problem": None, "traceparent": traceparent,
    }  # fmt: skip
    written = (
        postgresql.insert(DailyReport)
        .values(
            id=id, state="pending", day=day, time_zone=time_zone, user_id=user_id,
            starts_at=starts_at, ends_at=ends_at, traceparent=traceparent,
        )
        .on_conflict_do_update(
            index_elements=["day", "time_zone", "user_id"],
            set_=again,
            where=DailyReport.state != "pending",
        )
        .returning(DailyReport.id)
    )  # fmt: skip
    found = db.execute(written).scalar_one_or_none()
    if found is not None:
        return found
    return db.execute(
        select(DailyReport.id).where(
            DailyReport.day == day,
            DailyReport.time_zone == time_zone,
            DailyReport.user_id.is_not_distinct_from(user_id),
        )
    ).scalar_one()


def start_reports(
    db: Session, day: date, time_zone: str, *, starts_at: datetime, ends_at: datetime
) -> list[uuid.UUID]:
    """Request the missing reports of a day: that of all users, and of each user with sessions.

    Return their IDs.
    """
    users = db.scalars(
        select(AudioSession.user_id)
        .where(
            heard_at >= starts_at, heard_at < ends_at, AudioSession.user_id.is_not(None)
        )
        .distinct()
    ).all()  # fmt: skip
    values = {"day": day, "time_zone": time_zone, "starts_at": starts_at, "ends_at": ends_at}
    rows = [
        {"id": uuid.uuid4(), "state": "pending", "user_id": user_id, **values}
        for user_id in (None, *users)
    ]
    return list(
        db.scalars(
            postgresql.insert(DailyReport)
            .on_conflict_do_nothing(index_elements=["day", "time_zone", "user_id"])
            .returning(DailyReport.id),
            rows,
        )
    )


def get_report(
    db: Session, report_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> tuple[DailyReport, bool] | None:
    """Return a report, and whether it is stale; with an owner only if it is theirs."""
    row = db.execute(
        select(DailyReport, _is_stale()).where(
            DailyReport.id == report_id, session_queries.is_of(DailyReport, owner)
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def reports(
    db: Session, *, owner: uuid.UUID | None, order: Order, after: Keys | None, limit: int,
    day: date | None = None,
) -> Page:  # fmt: skip
    """Return a page of reports without their contents, and whether each is stale."""
    statement = (
        select(DailyReport, _is_stale().label("is_stale"))
        .where(session_queries.is_of(DailyReport, owner))
        .options(defer(DailyReport.report, raiseload=True))
    )
    if day is not None:
        statement = statement.where(DailyReport.day == day)
    return order.page(db, statement, after=after, limit=limit)


def known_pages(db: Session, report_ids: Sequence[uuid.UUID]) -> set[str]:
    """Return the keys of the pages of some reports."""
    rows = db.scalars(
        select(DailyReport.html_key).where(
            DailyReport.id.in_(report_ids), DailyReport.html_key.is_not(None)
        )
    )
    return {key for key in rows if key is not None}


def _is_stale() -> ColumnElement[bool]:
    """Return the condition of reports that would differ if generated now.

    These were generated before their day ended, or their sessions have changed since. False for a
    row without a report.
    """
    now = word_of(DailyReport.starts_at, DailyReport.ends_at, DailyReport.user_id)
    return and_(
        DailyReport.made_at.is_not(None),
        or_(DailyReport.made_at < DailyReport.ends_at, DailyReport.made_from != now),
    )


def word_of(starts_at: Any, ends_at: Any, user_id: Any) -> ScalarSelect[str]:
    """Return a version token of a day's sessions, which changes if one is added, ends or is gone.

    Everything in a report about a session is written together with its state, or earlier.
    """
    each = func.hashtextextended(cast(AudioSession.id, Text) + AudioSession.state, 0)
    length = func.make_interval(0, 0, 0, 0, 0, 0, func.coalesce(AudioSession.duration_s, 0.0))
    return (
        select(func.concat(func.count(), ":", func.sum(each)))
        .where(
            heard_at >= starts_at - LONGEST,
            heard_at < ends_at,
            or_(heard_at >= starts_at, heard_at + length > starts_at),
            or_(user_id.is_(None), AudioSession.user_id == user_id),
        )
        .scalar_subquery()
    )


def word(db: Session, row: DailyReport) -> str:
    """Return the current version token of the sessions of a report's day."""
    mine = select(word_of(DailyReport.starts_at, DailyReport.ends_at, DailyReport.user_id))
    return db.execute(mine.where(DailyReport.id == row.id)).scalar_one()


# --- figures -----------------------------------------------------------------------------------


def sessions_by_state(
    db: Session, user_id: uuid.UUID | None, edges_s: Sequence[float]
) -> Sequence[Row[Any]]:
    """Return the sessions between consecutive times.

    Columns: ``at`` (1 for the first interval), ``state``, ``sessions``, ``audio_s``, and the number
    ``without_time`` of recording.
    """
    at = func.width_bucket(_BEGUN_S, _array(edges_s)).label("at")
    return db.execute(
        select(
            at,
            AudioSession.state,
            func.count().label("sessions"),
            func.coalesce(func.sum(AudioSession.duration_s), 0.0).label("audio_s"),
            func.count().filter(AudioSession.recorded_at.is_(None)).label("without_time"),
        )
        .where(_begun_within(edges_s[0], edges_s[-1]), session_queries.is_of(AudioSession, user_id))
        .group_by(literal_column("1"), AudioSession.state)
    ).all()


def events_by_type(
    db: Session, user_id: uuid.UUID | None, edges_s: Sequence[float]
) -> Sequence[Row[Any]]:
    """Return the detections between consecutive times.

    Columns: ``at`` (1 for the first interval), ``noise_type``, ``events``, ``total_s``.
    """
    begun_s = _BEGUN_S + NoiseDetection.start_s
    at = func.width_bucket(begun_s, _array(edges_s)).label("at")
    length_s = NoiseDetection.end_s - NoiseDetection.start_s
    return db.execute(
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
    ).all()


def levels_of(
    db: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float
) -> Sequence[Row[Any]]:
    """Return the levels of recordings with a known time that may overlap an interval.

    Columns: ``begin_s``, ``duration_s``, ``calibration_db``, ``quarter_mean_squares``, and the
    calibrated ``laeq_db`` of the whole recording.
    """
    return db.execute(
        select(
            _BEGUN_S.label("begin_s"),
            AudioSession.duration_s,
            AudioSession.calibration_db,
            AudioSession.quarter_mean_squares,
            cast(AudioSession.summary["laeq_db"].astext, Double).label("laeq_db"),
        ).where(
            _may_reach_into(begin_s, end_s),
            session_queries.is_of(AudioSession, user_id),
            _HAS_EVENTS,
            AudioSession.recorded_at.is_not(None),
            AudioSession.duration_s > 0,
            # Sessions of releases that measured no levels have none.
            AudioSession.summary.has_key("laeq_db"),
        )
    ).all()


def problems(
    db: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float
) -> Sequence[Row[Any]]:
    """Return the problems of an interval's sessions: ``code`` and ``sessions``, most first."""
    code = AudioSession.problem["code"].astext.label("code")
    return db.execute(
        select(code, func.count().label("sessions"))
        .where(
            _begun_within(begin_s, end_s),
            session_queries.is_of(AudioSession, user_id),
            func.jsonb_typeof(AudioSession.problem) == "object",
        )
        .group_by(code)
        .order_by(literal_column("2").desc(), code)
    ).all()


def latency(db: Session, user_id: uuid.UUID | None, *, begin_s: float, end_s: float) -> Row[Any]:
    """Return the latency of an interval's sessions.

    Columns: ``sessions``, ``p50_s``, ``p95_s``, and ``times_real_time_p50``, the median ratio of
    duration to latency.
    """
    took_s = cast(func.extract("epoch", AudioSession.finished_at - AudioSession.created_at), Double)
    speed = AudioSession.duration_s / func.nullif(took_s, 0)
    return db.execute(
        select(
            func.count().label("sessions"),
            func.percentile_cont(0.5).within_group(took_s).label("p50_s"),
            func.percentile_cont(0.95).within_group(took_s).label("p95_s"),
            func.percentile_cont(0.5).within_group(speed).label("times_real_time_p50"),
        ).where(
            _begun_within(begin_s, end_s), session_queries.is_of(AudioSession, user_id), _HAS_EVENTS
        )
    ).one()


def _array(edges_s: Sequence[float]) -> ColumnElement[Any]:
    return literal(list(edges_s), ARRAY(Double))


def _time(seconds: float) -> ColumnElement[datetime]:
    return func.to_timestamp(seconds)


def _begun_within(begin_s: float, end_s: float) -> ColumnElement[bool]:
    return and_(heard_at >= _time(begin_s), heard_at < _time(end_s))


def _may_reach_into(begin_s: float, end_s: float) -> ColumnElement[bool]:
    return and_(heard_at >= _time(begin_s) - LONGEST, heard_at < _time(end_s))
