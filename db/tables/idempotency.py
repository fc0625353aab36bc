"""The table of requests that are answered once, however often they are sent."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base

#: Characters of an ``Idempotency-Key``.
MOST_KEY_CHARS = 255


class IdempotentRequest(Base):
    """A request that bore an ``Idempotency-Key``, and its answer.

    While ``status`` is null it is under way: some process holds it by its ``attempt`` until
    ``due_at``, and renews that while it lives. Whoever comes later than that takes it over.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (
        CheckConstraint(f"length(key) BETWEEN 1 AND {MOST_KEY_CHARS}", name="key"),
        CheckConstraint(
            "length(head_sha256) = 32 AND length(body_sha256) = 32", name="fingerprint"
        ),
        # What was answered can be answered again, and compared with what is asked again.
        CheckConstraint(
            "status IS NULL OR (headers IS NOT NULL AND head_sha256 IS NOT NULL"
            " AND body_sha256 IS NOT NULL)",
            name="answered",
        ),
        Index("ix_idempotent_requests_created_at", "created_at"),
    )

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(primary_key=True)
    #: Of method, path, query and kind of body; null after a refusal, which binds to nothing.
    head_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    #: Of the body; it is known when the body has passed.
    body_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    #: The id of the row that the request makes, if it makes one: with every attempt the same.
    made_id: Mapped[uuid.UUID]
    attempt: Mapped[int]
    due_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[int | None] = mapped_column(SmallInteger)
    headers: Mapped[dict[str, Any] | None]
    #: Null where the answer told a secret, which is kept nowhere.
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
