"""Queries for daily reports and their figures.

A session belongs to the day on which its recording began, or, if that is unknown, on which it was
posted (`began_at`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    ScalarSelect,
    Text,
    and_,
    cast,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, defer
from sqlalchemy.sql.elements import ColumnElement

from db.ids import new_id
from db.queries import paging, session_queries
from db.queries.model_queries import JobDone
from db.queries.paging import Keys, Order, Page
from db.tables.base import JsonObject, untried_now
from db.tables.reports import DailyReport
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession

#: When the recording of a session began, or else when it was posted; there is an index on it.
began_at: ColumnElement[datetime] = func.coalesce(AudioSession.recorded_at, AudioSession.created_at)
#: The longest recording; one that began earlier does not reach into a day.
LONGEST: ColumnElement[timedelta] = literal_column("interval '24 hours'")

ORDERS = paging.orders({"created_at": DailyReport.created_at}, DailyReport.id)


# --- reports -----------------------------------------------------------------------------------


def ask_for_report(
    tx: Session,
    *,
    id: uuid.UUID,
    day: date,
    time_zone: str,
    user_id: uuid.UUID | None,
    starts_at: datetime,
    ends_at: datetime,
    traceparent: str | None = None,
) -> uuid.UUID:
    """Request a report, new or again, unless it is pending already; return its ID.

    The attempts of a row that is requested again count from 1, so an earlier worker that was
    considered dead may still write. Therefore a report includes the version token of its sessions,
    which shows whether it is stale.
    """
    again = {
        **untried_now(),
        "state": "pending",
        "started_at": None,
        "finished_at": None,
        "percent": 0,
        "stage": "waiting",
        "problem": None,
        "traceparent": traceparent,
    }
    written = (
        postgresql.insert(DailyReport)
        .values(
            id=id,
            state="pending",
            day=day,
            time_zone=time_zone,
            user_id=user_id,
            starts_at=starts_at,
            ends_at=ends_at,
            traceparent=traceparent,
        )
        .on_conflict_do_update(
            index_elements=["day", "time_zone", "user_id"],
            set_=again,
            where=DailyReport.state != "pending",
        )
        .returning(DailyReport.id)
    )
    found = tx.execute(written).scalar_one_or_none()
    if found is not None:
        return found
    return tx.execute(
        select(DailyReport.id).where(
            DailyReport.day == day,
            DailyReport.time_zone == time_zone,
            DailyReport.user_id.is_not_distinct_from(user_id),
        )
    ).scalar_one()


class ReportDone(JobDone):
    """What the work on a report writes at its end."""

    report: JsonObject
    made_from: str
    made_at: ColumnElement[datetime]
    html_key: str


def start_reports(
    tx: Session, day: date, time_zone: str, *, starts_at: datetime, ends_at: datetime
) -> list[uuid.UUID]:
    """Request the missing reports of a day: that of all users, and of each user with sessions.

    Return their IDs.
    """
    users = tx.scalars(
        select(AudioSession.user_id)
        .where(began_at >= starts_at, began_at < ends_at, AudioSession.user_id.is_not(None))
        .distinct()
    ).all()
    values = {"day": day, "time_zone": time_zone, "starts_at": starts_at, "ends_at": ends_at}
    rows = [
        {"id": new_id(), "state": "pending", "user_id": user_id, **values}
        for user_id in (None, *users)
    ]
    return list(
        tx.scalars(
            postgresql.insert(DailyReport)
            .on_conflict_do_nothing(index_elements=["day", "time_zone", "user_id"])
            .returning(DailyReport.id),
            rows,
        )
    )


def get_report(
    tx: Session, report_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> tuple[DailyReport, bool] | None:
    """Return a report, and whether it is stale; with an owner only if it is theirs."""
    row = tx.execute(
        select(DailyReport, _is_stale()).where(
            DailyReport.id == report_id, session_queries.is_of(DailyReport, owner)
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1])


def reports(
    tx: Session,
    *,
    owner: uuid.UUID | None,
    order: Order,
    after: Keys | None,
    limit: int,
    day: date | None = None,
) -> Page[Row[Any]]:
    """Return a page of reports without their contents, and whether each is stale."""
    statement = (
        select(DailyReport, _is_stale().label("is_stale"))
        .where(session_queries.is_of(DailyReport, owner))
        .options(defer(DailyReport.report, raiseload=True))
    )
    if day is not None:
        statement = statement.where(DailyReport.day == day)
    return order.page(tx, statement, after=after, limit=limit)


def known_pages(tx: Session, report_ids: Sequence[uuid.UUID]) -> set[str]:
    """Return the keys of the pages of some reports."""
    rows = tx.scalars(
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
    return and_(
        DailyReport.made_at.is_not(None),
        or_(
            DailyReport.made_at < DailyReport.ends_at, DailyReport.made_from != _sessions_version()
        ),
    )


def _sessions_version() -> ScalarSelect[str]:
    """Return a version token of a day's sessions, which changes if one is added, ends or is gone.

    Everything in a report about a session is written together with its state, or earlier.
    """
    starts_at, ends_at, user_id = DailyReport.starts_at, DailyReport.ends_at, DailyReport.user_id
    each = func.hashtextextended(cast(AudioSession.id, Text) + AudioSession.state, 0)
    length = func.make_interval(0, 0, 0, 0, 0, 0, func.coalesce(SessionResult.duration_s, 0.0))
    return (
        select(func.concat(func.count(), ":", func.sum(each)))
        .outerjoin_from(AudioSession, SessionResult)
        .where(
            began_at >= starts_at - LONGEST,
            began_at < ends_at,
            or_(began_at >= starts_at, began_at + length > starts_at),
            or_(user_id.is_(None), AudioSession.user_id == user_id),
        )
        .scalar_subquery()
    )


def sessions_version(tx: Session, row: DailyReport) -> str:
    """Return the current version token of the sessions of a report's day."""
    return tx.execute(select(_sessions_version()).where(DailyReport.id == row.id)).scalar_one()
