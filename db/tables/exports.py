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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The export's ID.")
    format: Mapped[str] = mapped_column(
        comment="The format of the file; docs/exports.md describes them."
    )
    # Read by `db.queries.export_queries.DetectionSelection`.
    selection: Mapped[StoredSelection] = mapped_column(
        JSONB, comment="The filters for sessions and detections."
    )
    all_users: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="Whether it may cover the sessions of all users rather than only the user's own.",
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The session, if it covers one only, with which it is removed. Not a foreign key, "
            "since its file must be removed too."
        )
    )
    rows_written: Mapped[int | None] = mapped_column(
        BigInteger, comment="The number of detections in the file; null until there is one."
    )
    size_bytes: Mapped[int | None] = mapped_column(
        BigInteger, comment="The size of the file; null until there is one."
    )
    blob_key: Mapped[str | None] = mapped_column(
        comment="The key of the file in the blob store; null until there is one."
    )
    expires_at: Mapped[datetime] = mapped_column(
        comment="From then on the file is not served; row and file are removed."
    )
