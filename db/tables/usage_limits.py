"""The tables of usage: token buckets of requests, and the audio of each month."""

from __future__ import annotations

import uuid
from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class RateBucket(Base):
    """The token bucket of one key, as of its last settlement by a process.

    A request costs a token; ``per_s`` tokens are added each second, up to ``burst``. The balance is
    negative if several processes together spent more before they settled.
    """

    __tablename__ = "rate_buckets"
    __table_args__ = (CheckConstraint("per_s > 0 AND burst >= 1", name="rate"),)

    key_id: Mapped[str] = mapped_column(
        ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True, comment="The API key."
    )
    tokens: Mapped[float] = mapped_column(
        comment=(
            "The balance. Negative if several processes together spent more before they settled."
        )
    )
    per_s: Mapped[float] = mapped_column(comment="Tokens that are added each second.")
    burst: Mapped[float] = mapped_column(comment="The highest balance.")
    settled_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When a process last settled."
    )


class UsageMonth(Base):
    """A user's analysed audio of the recordings posted in one calendar month (UTC)."""

    __tablename__ = "usage_months"

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, comment="The user."
    )
    month: Mapped[date] = mapped_column(primary_key=True, comment="The first day of the month.")
    audio_s: Mapped[float] = mapped_column(comment="Seconds of audio.")
    sessions: Mapped[int] = mapped_column(comment="The number of recordings.")
