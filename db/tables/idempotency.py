"""The table of idempotent requests, which are processed once, however often they are sent."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, SmallInteger, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base

#: The longest ``Idempotency-Key``.
MOST_KEY_CHARS = 255


class IdempotentRequest(Base):
    """A request with an Idempotency-Key, and its response.

    While ``status`` is null it is being processed: a process holds it by its ``attempt`` until
    ``due_at``, and renews that while it lives. After ``due_at`` another process may take it over.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (
        CheckConstraint(f"length(key) BETWEEN 1 AND {MOST_KEY_CHARS}", name="key"),
        CheckConstraint(
            "length(head_sha256) = 32 AND length(body_sha256) = 32", name="fingerprint"
        ),
        # A finished request has its response for replay, and its hashes for comparison.
        CheckConstraint(
            "status IS NULL OR (headers IS NOT NULL AND head_sha256 IS NOT NULL"
            " AND body_sha256 IS NOT NULL)",
            name="answered",
        ),
        Index("ix_idempotent_requests_created_at", "created_at"),
    )

    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The user whose request it is.",
    )
    key: Mapped[str] = mapped_column(primary_key=True, comment="The Idempotency-Key header.")
    head_sha256: Mapped[bytes | None] = mapped_column(
        LargeBinary,
        comment=(
            "The hash of method, path, query and kind of body; null after a rejection, which "
            "does not bind the key."
        ),
    )
    body_sha256: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="The hash of the body; null until the body has been read."
    )
    made_id: Mapped[uuid.UUID] = mapped_column(
        comment="The ID of the row that the request creates, if any: the same for every attempt."
    )
    attempt: Mapped[int] = mapped_column(
        comment="The number of attempts: the fence of the process that handles the request."
    )
    due_at: Mapped[datetime] = mapped_column(
        comment="When another process may take the request over, unless it has a response."
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the key was first used; it expires a day later."
    )
    status: Mapped[int | None] = mapped_column(
        SmallInteger, comment="The status of the response; null while the request is processed."
    )
    headers: Mapped[dict[str, str] | None] = mapped_column(
        JSONB, comment="The headers of the response."
    )
    body: Mapped[bytes | None] = mapped_column(
        LargeBinary,
        comment="The body of the response; null if it contained a secret, which is never stored.",
    )
