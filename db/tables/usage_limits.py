"""The tables of what callers use: their buckets of requests, and their audio of each month."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class RateBucket(Base):
    """The bucket of tokens of one key, as of when a process last settled with it.

    A request costs a token; ``per_s`` of them come back each second, up to ``burst``. Below zero
    are those that several processes gave away before they knew of each other.
    """

    __tablename__ = "rate_buckets"
    __table_args__ = (CheckConstraint("per_s > 0 AND burst >= 1", name="rate"),)

    key_id: Mapped[str] = mapped_column(
        ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True
    )
    tokens: Mapped[float]
    per_s: Mapped[float]
    burst: Mapped[float]
    settled_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageMonth(Base):
    """What a user had analysed of the recordings that were posted in one calendar month (UTC)."""

    __tablename__ = "usage_months"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    #: Its first day.
    month: Mapped[date] = mapped_column(primary_key=True)
    audio_s: Mapped[float]
    sessions: Mapped[int]
