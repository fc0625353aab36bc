"""The request log of the HTTP API."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    SmallInteger,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class APIRequest(Base):
    """One request to the HTTP API, with what identifies it to its caller."""

    __tablename__ = "api_requests"
    __table_args__ = (
        Index("ix_api_requests_received_at", "received_at"),
        # A user's usage in a period.
        Index("ix_api_requests_user_id", "user_id", "received_at"),
        Index("ix_api_requests_session_id", "session_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    request_id: Mapped[str]
    method: Mapped[str]
    #: The route's template, such as ``/v1/sessions/{session_id}``.
    route: Mapped[str]
    status: Mapped[int] = mapped_column(SmallInteger)
    duration_s: Mapped[float]
    bytes_in: Mapped[int] = mapped_column(BigInteger)
    bytes_out: Mapped[int] = mapped_column(BigInteger)
    #: The API key, if it was valid; no foreign key, for the same reason as `session_id`.
    key_id: Mapped[str | None]
    user_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    #: No foreign key: the log entry outlives its session.
    session_id: Mapped[uuid.UUID | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
