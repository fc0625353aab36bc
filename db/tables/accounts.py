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

#: The scopes of a key. ``admin`` allows everything, on the data of all users.
SCOPES = ("sessions:write", "sessions:read", "models:write", "reports:read", "admin")


class User(Base):
    """A user on whose behalf recordings are analysed."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("email"),
        CheckConstraint("max_audio_s_per_month >= 0", name="max_audio_s_per_month"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The user's ID.")
    email: Mapped[str] = mapped_column(
        comment="The email address, by which the user is named in commands."
    )
    name: Mapped[str] = mapped_column(comment="The name that is shown.")
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the user was added."
    )
    disabled_at: Mapped[datetime | None] = mapped_column(
        comment="Since when the user's keys are refused; null if they are accepted."
    )
    max_audio_s_per_month: Mapped[float | None] = mapped_column(
        comment=(
            "Seconds of audio that may be posted for analysis per month; null for the "
            "installation's default."
        )
    )


class ApiKey(Base):
    """A key that authenticates a service as a user. The secret itself is not stored.

    A key is *active* unless it was revoked or has expired. A user has at most two active keys of
    one name: the one in use and its replacement.
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

    id: Mapped[str] = mapped_column(
        primary_key=True, comment="The public part of the key, by which it is found."
    )
    user_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"),
        comment="The user that requests with this key act for.",
    )
    name: Mapped[str] = mapped_column(comment="What the user calls it.")
    secret_hash: Mapped[bytes] = mapped_column(
        LargeBinary, comment="HMAC-SHA256 of the secret, with the pepper of the API processes."
    )
    scopes: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="What requests with this key may do."
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was created."
    )
    expires_at: Mapped[datetime | None] = mapped_column(
        comment="When it stops being accepted; null for never."
    )
    revoked_at: Mapped[datetime | None] = mapped_column(
        comment="When it was revoked; null if it was not."
    )
    requests_per_s: Mapped[float | None] = mapped_column(
        comment="Its rate limit; null for the installation's default."
    )
