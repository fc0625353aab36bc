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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The report's ID.")
    user_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"),
        comment=(
            "The user whose sessions it covers; null for all users. It is removed with its "
            "user, as it would otherwise seem to cover all users."
        ),
    )
    day: Mapped[date] = mapped_column(comment="The day.")
    time_zone: Mapped[str] = mapped_column(comment="The time zone of the day, an IANA name.")
    starts_at: Mapped[datetime] = mapped_column(comment="When the day began in its time zone.")
    ends_at: Mapped[datetime] = mapped_column(comment="When the day ended in its time zone.")
    report: Mapped[JsonObject | None] = mapped_column(
        JSONB, comment="The figures; null until it was generated once."
    )
    made_at: Mapped[datetime | None] = mapped_column(comment="When it was generated.")
    # See `db.queries.report_queries.sessions_version`.
    made_from: Mapped[str | None] = mapped_column(
        comment=(
            "A version token of the sessions that it is based on; it is stale if they have "
            "another one."
        )
    )
    html_key: Mapped[str | None] = mapped_column(comment="The key of its page in the blob store.")
