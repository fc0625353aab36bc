"""The tables of users and their API keys."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base

#: What a key may be allowed. ``admin`` allows everything, for every user's things.
SCOPES = ("sessions:write", "sessions:read", "models:write", "reports:read", "admin")


class User(Base):
    """Somebody on whose behalf recordings are analysed."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("max_audio_s_per_month >= 0", name="max_audio_s_per_month"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]
    #: Seconds of audio that may be analysed of what is posted in a month; null for as many as the
    #: installation's users may have.
    max_audio_s_per_month: Mapped[float | None]


class ApiKey(Base):
    """What a service shows to be known as a user. The secret itself is not kept.

    A key is *active* unless it was revoked or has expired. Of one name a user has two active keys
    at most: the one in use, and the one that takes its place.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("length(secret_hash) = 32", name="secret_hash"),
        CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY[{}]".format(
                ", ".join(f"'{scope}'" for scope in SCOPES)
            ),
            name="scopes",
        ),
        CheckConstraint("requests_per_s > 0", name="requests_per_s"),
        Index("ix_api_keys_user_id", "user_id", "name"),
    )

    #: The part of the key that is no secret, by which it is found.
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    #: HMAC-SHA256 of the secret, with the pepper that the API processes have.
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    #: How many requests it may make; null for as many as the installation's keys may.
    requests_per_s: Mapped[float | None]
