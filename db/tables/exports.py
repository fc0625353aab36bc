"""The table of exports: files of detections that can be downloaded for a while."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TypedDict

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, JobRow, Owned, one_of

#: The formats of exports; docs/exports.md describes them.
EXPORT_FORMATS = ("csv", "ndjson", "parquet", "audacity", "raven", "dcase", "rttm", "clips")
#: The FLAC file of one detection. Its export has the detection's ID, is requested by reading the
#: clip, and is not listed.
CLIP = "clip"


class StoredSelection(TypedDict, total=False):
    """The filters of an export, with IDs and times as text; a filter that is not set is absent."""

    session_ids: list[str]
    batch_id: str
    created_from: str
    created_to: str
    states: list[str]
    noise_types: list[str]
    min_confidence: float


class Export(JobRow, Owned, Base):
    """A selection of detections to write to a file, and the file."""

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint(one_of("format", (*EXPORT_FORMATS, CLIP)), name="format"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("jsonb_typeof(selection) = 'object'", name="selection"),
        CheckConstraint("(state = 'completed') = (blob_key IS NOT NULL)", name="file"),
        Index("ix_exports_user_created", "user_id", "created_at", "id"),
        Index("ix_exports_expires_at", "expires_at"),
        # Exports that are removed with their session.
        Index(
            "ix_exports_session_id", "session_id", postgresql_where=text("session_id IS NOT NULL")
        ),
        Index("ix_exports_unfinished", "due_at", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    format: Mapped[str]
    #: The sessions and detections, as read by `db.queries.export_queries.DetectionSelection`.
    selection: Mapped[StoredSelection] = mapped_column(JSONB)
    #: Whether it may cover the sessions of all users rather than only the user's own.
    all_users: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Set if it covers one session only, with which it is removed. No foreign key, since its file
    #: must be removed too.
    session_id: Mapped[uuid.UUID | None]
    #: Number of detections, size and key of the file, once there is one.
    rows_written: Mapped[int | None] = mapped_column(BigInteger)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    blob_key: Mapped[str | None]
    #: From then on the file is not served; row and file are removed.
    expires_at: Mapped[datetime]
