"""The tables of webhooks: who is told of sessions that end, and what became of telling them.

The rows of deliveries are written by the database itself: a trigger of ``audio_sessions``
(migration 0014) adds one for each webhook that hears of a session, in the very transaction that
ends it, whoever does. So no way to end a session can forget them.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Claimable, one_of

WEBHOOK_STATES = ("active", "disabled")
DELIVERY_STATES = ("pending", "delivered", "failed")

#: What a delivery tells: that nothing happened, but somebody wants to see it arrive. The others
#: are ``session.`` and the state in which a session ended.
PING = "ping"
#: How long after a rotation the secret before still signs.
OVERLAP_S = 86_400.0
#: Tries of a delivery that are remembered: more than one round of them.
TRIES_KEPT = 20


class Webhook(Claimable, Base):
    """An address of a user's that is told of the ends of their sessions.

    It is the unit of work: whoever claims it sends the next of its deliveries that is due, so that
    a receiver is asked one thing at a time, and one that is slow or away holds up nobody else. Its
    ``due_at`` says when it may be asked next.
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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    url: Mapped[str]
    #: Whether it hears of all of the user's sessions, or only of those that name it.
    all_sessions: Mapped[bool]
    #: ``whsec_`` and base64. It must be kept as it is, for it signs; it is shown once.
    secret: Mapped[str]
    #: The one before, which signs too until then.
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: Tries in a row that failed, whatever they were to deliver, and when the first one did.
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookDelivery(Base):
    """One thing to tell a webhook, and each try to. Its id is the ``webhook-id`` of all of them."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("state", DELIVERY_STATES), name="state"),
        CheckConstraint("tries >= round_start AND round_start >= 0", name="tries"),
        CheckConstraint("(type = 'ping') = (session_id IS NULL)", name="session"),
        # The log of a webhook, newest first.
        Index("ix_webhook_deliveries_log", "webhook_id", "created_at", "id"),
        # What a webhook is to be told next.
        Index(
            "ix_webhook_deliveries_pending",
            "webhook_id",
            "next_at",
            postgresql_where=text("state = 'pending'"),
        ),
        # What is so old that it is removed.
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    webhook_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    type: Mapped[str]
    #: No foreign key: the record of a delivery outlives the session that it spoke of.
    session_id: Mapped[uuid.UUID | None]
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: When it is tried next, if it is pending.
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    #: How often it was tried. The number never falls: it is a part of the fence. A replay begins a
    #: new round of tries, and ``round_start`` is their number then.
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    round_start: Mapped[int] = mapped_column(server_default=text("0"))
    #: The last tries, the oldest first: ``at``, ``status``, ``duration_s``, ``error``.
    log: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
