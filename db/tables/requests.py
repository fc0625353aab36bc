"""The request log of the HTTP API."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class APIRequest(Base):
    """One request to the HTTP API, with what identifies it to its caller."""

    __tablename__ = "api_requests"
    __table_args__ = (
        PrimaryKeyConstraint("received_at", "id"),
        # A user's usage in a period.
        Index("ix_api_requests_user_id", "user_id", "received_at"),
        {"postgresql_partition_by": "RANGE (received_at)"},
    )

    id: Mapped[int] = mapped_column(
        BigInteger, Identity(always=True), comment="Numbers the requests."
    )
    request_id: Mapped[str] = mapped_column(
        comment="The X-Request-ID, as in the log and in the response."
    )
    method: Mapped[str] = mapped_column(comment="The HTTP method.")
    route: Mapped[str] = mapped_column(
        comment="The template of the route, such as /v1/sessions/{session_id}."
    )
    status: Mapped[int] = mapped_column(SmallInteger, comment="The HTTP status of the response.")
    duration_s: Mapped[float] = mapped_column(
        comment="Seconds from the request to the end of the response."
    )
    bytes_in: Mapped[int] = mapped_column(
        BigInteger, comment="The size of the request's body in bytes."
    )
    bytes_out: Mapped[int] = mapped_column(
        BigInteger, comment="The size of the response's body in bytes."
    )
    key_id: Mapped[str | None] = mapped_column(
        comment="The API key, if it was valid. Not a foreign key: the log entry outlives it."
    )
    user_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"),
        comment="The user of the key; null without a valid key, or if the user was removed.",
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The session that the request is about. Not a foreign key: the log entry outlives it."
        )
    )
    received_at: Mapped[datetime] = mapped_column(
        server_default=func.now(),
        comment="When the request arrived, by the clock of the database.",
    )


class RequestMinute(Base):
    """The requests of one key in one minute: the sums of its rows in the request log."""

    __tablename__ = "request_minutes"
    __table_args__ = (
        # By the minute first, for the removal of old ones.
        PrimaryKeyConstraint("minute", "key_id"),
        # A user's usage in a period.
        Index("ix_request_minutes_user_id", "user_id", "minute"),
        # Room on each page for new versions of its rows.
        {"postgresql_with": {"fillfactor": 50}},
    )

    minute: Mapped[datetime] = mapped_column(
        comment="The beginning of the minute in which the requests arrived."
    )
    key_id: Mapped[str] = mapped_column(
        comment="The API key. Not a foreign key: the sums outlive it."
    )
    user_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("users.id", ondelete="SET NULL"),
        comment="The user of the key; null if the user was removed.",
    )
    requests: Mapped[int] = mapped_column(BigInteger, comment="The number of requests.")
    errors: Mapped[int] = mapped_column(
        BigInteger, comment="Those that were answered with a status of 400 or above."
    )
    bytes_in: Mapped[int] = mapped_column(BigInteger, comment="The size of their bodies in bytes.")
    bytes_out: Mapped[int] = mapped_column(
        BigInteger, comment="The size of the bodies of their responses in bytes."
    )
