"""The tables of webhooks, which are notified of the end of sessions, and of their deliveries.

The database itself creates deliveries: a trigger on ``audio_sessions`` (`db.tables.routines`) adds
one for each webhook of a session, in the transaction that ends it. So no code path that ends a
session can omit them.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Claimable, JsonObject, one_of

WEBHOOK_STATES = ("active", "disabled")
DELIVERY_STATES = ("pending", "delivered", "failed")

#: The type of a test delivery without an event. The other types are ``session.`` and the final
#: state of the session.
PING = "ping"
#: How long after a rotation the previous secret still signs.
OVERLAP_S = 86_400.0
#: How many tries of a delivery are logged: more than one round of them.
TRIES_KEPT = 20


class WebhookEndpoint(Claimable, Base):
    """A user's URL that is notified of the end of their sessions.

    The webhook is the work item: the worker that claims it sends its next due delivery. So a
    receiver gets one request at a time, and one that is slow or unavailable does not delay others.
    ``due_at`` is the time of its next request at the earliest.
    """

    __tablename__ = "webhooks"
    unfinished = ("active",)
    __table_args__ = (
        CheckConstraint(one_of("state", WEBHOOK_STATES), name="state"),
        CheckConstraint(
            "(state = 'disabled') = (disabled_at IS NOT NULL)"
            " AND (state = 'disabled') = (disabled_reason IS NOT NULL)",
            name="disabled",
        ),
        CheckConstraint("(old_secret IS NULL) = (old_secret_until IS NULL)", name="old_secret"),
        CheckConstraint(
            "failures >= 0 AND (failures = 0) = (failing_since IS NULL)", name="failures"
        ),
        Index("ix_webhooks_user_id", "user_id", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The webhook's ID.")
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), comment="The user whose sessions it is about."
    )
    url: Mapped[str] = mapped_column(comment="The URL that is requested.")
    all_sessions: Mapped[bool] = mapped_column(
        comment=(
            "Whether it is notified of all of the user's sessions, or only of those that name it."
        )
    )
    secret: Mapped[str] = mapped_column(
        comment=(
            "The secret that signs, encrypted with a key of CLAMOR_SECRET_KEYS; shown only once."
        )
    )
    old_secret: Mapped[str | None] = mapped_column(
        comment="The previous secret, encrypted, which also signs until old_secret_until."
    )
    old_secret_until: Mapped[datetime | None] = mapped_column(
        comment="When the previous secret stops signing."
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was registered."
    )
    failures: Mapped[int] = mapped_column(
        server_default=text("0"), comment="The number of consecutive failures over all deliveries."
    )
    failing_since: Mapped[datetime | None] = mapped_column(
        comment="The time of the first of these failures; null without any."
    )
    disabled_at: Mapped[datetime | None] = mapped_column(
        comment="When it was disabled; null if it is active."
    )
    disabled_reason: Mapped[str | None] = mapped_column(
        comment="Why it was disabled; null if it is active."
    )


class WebhookDelivery(Base):
    """One delivery to a webhook, with its tries."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("state", DELIVERY_STATES), name="state"),
        CheckConstraint("tries >= round_start AND round_start >= 0", name="tries"),
        CheckConstraint("(type = 'ping') = (session_id IS NULL)", name="session"),
        # The log of a webhook, newest first.
        Index("ix_webhook_deliveries_log", "webhook_id", "created_at", "id"),
        # The next delivery of a webhook.
        Index(
            "ix_webhook_deliveries_pending",
            "webhook_id",
            "next_at",
            postgresql_where=text("state = 'pending'"),
        ),
        # Deliveries old enough for removal.
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, comment="The delivery's ID: the webhook-id of each try."
    )
    webhook_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), comment="The webhook."
    )
    type: Mapped[str] = mapped_column(
        comment="The type of the event: session. and the final state, or ping."
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The session; null for a ping. Not a foreign key: the delivery outlives its session."
        )
    )
    state: Mapped[str] = mapped_column(
        server_default=text("'pending'"),
        comment="Whether it waits for a try, was delivered, or was given up.",
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the session ended, or the ping was requested."
    )
    next_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="The time of the next try, if it is pending."
    )
    finished_at: Mapped[datetime | None] = mapped_column(
        comment="When it was delivered or given up; null until then."
    )
    tries: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="The number of tries. It never falls, as it is part of the fence.",
    )
    round_start: Mapped[int] = mapped_column(
        server_default=text("0"),
        comment="The number of tries before the current round, which a replay begins.",
    )
    # Each of them a `Try`.
    log: Mapped[list[JsonObject]] = mapped_column(
        JSONB, server_default=text("'[]'"), comment="The last tries, the oldest first."
    )
