"""The table of exports: what was found, written to a file that can be downloaded for a while."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, Job, Owned, Traced, one_of

#: In which formats there are exports: docs/exports.md tells of each.
EXPORT_FORMATS = ("csv", "ndjson", "parquet", "audacity", "raven", "dcase", "rttm", "clips")


class Export(Job, Owned, Traced, Base):
    """Events to be written to a file, and the file."""

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint(one_of("format", EXPORT_FORMATS), name="format"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("jsonb_typeof(selection) = 'object'", name="selection"),
        CheckConstraint("(state = 'completed') = (blob_key IS NOT NULL)", name="file"),
        Index("ix_exports_user_created", "user_id", "created_at", "id"),
        Index("ix_exports_expires_at", "expires_at"),
        # Those that go with their session.
        Index(
            "ix_exports_session_id", "session_id", postgresql_where=text("session_id IS NOT NULL")
        ),
        Index("ix_exports_unfinished", "due_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    format: Mapped[str]
    #: Of which sessions which events, as :class:`db.queries.export_queries.Selection` reads it.
    selection: Mapped[dict[str, Any]]
    #: Whether it may be of everybody's sessions, and not of the user's own alone.
    all_users: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Set where it is of one session alone: it goes with that. No foreign key, since its file has
    #: to go, too.
    session_id: Mapped[uuid.UUID | None]
    #: The file, once there is one: how many events are in it, its size, and where it lies.
    rows_written: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    blob_key: Mapped[str | None]
    #: Then the file is given to nobody any more, and the row goes with it.
    expires_at: Mapped[datetime]
