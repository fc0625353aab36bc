"""The table of daily reports."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, JobRow, JsonObject, Owned, one_of


class DailyReport(JobRow, Owned, Base):
    """The report of one day in one time zone. There is one per day, zone and user.

    When requested again it is ``pending`` and keeps the previous report until the new one is ready.
    """

    __tablename__ = "daily_reports"
    __table_args__ = (
        UniqueConstraint("day", "time_zone", "user_id", postgresql_nulls_not_distinct=True),
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("length(time_zone) BETWEEN 1 AND 64", name="time_zone"),
        CheckConstraint("ends_at > starts_at", name="times"),
        CheckConstraint(
            "num_nonnulls(report, made_at, made_from, html_key) IN (0, 4)", name="report"
        ),
        Index("ix_daily_reports_user_created", "user_id", "created_at", "id"),
        Index(
            "ix_daily_reports_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: The user whose sessions it covers; null for all users, which is for administrators. It is
    #: removed with its user, as it would otherwise seem to cover all users.
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    day: Mapped[date]
    #: An IANA name.
    time_zone: Mapped[str]
    #: When the day began and ended there.
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    #: The report, when it was generated, a version token of the sessions that it is based on
    #: (``db.queries.report_queries.sessions_version``), and the key of its page in the blob store.
    report: Mapped[JsonObject | None] = mapped_column(JSONB)
    made_at: Mapped[datetime | None]
    made_from: Mapped[str | None]
    html_key: Mapped[str | None]
