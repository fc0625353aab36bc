"""The tables of kept clips, of the installation, and of orphaned blobs."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Owned


class KeptClip(Owned, Base):
    """One of the most confident detections of its type, whose audio outlives its session."""

    __tablename__ = "kept_clips"
    __table_args__ = (
        CheckConstraint("end_s > start_s", name="times"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        Index("ix_kept_clips_noise_type", "user_id", "noise_type", "confidence"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    noise_type: Mapped[str]
    confidence: Mapped[float]
    #: The removed session, and the position in its recording.
    session_id: Mapped[uuid.UUID]
    file_name: Mapped[str]
    start_s: Mapped[float]
    end_s: Mapped[float]
    #: When the recording was uploaded.
    sent_at: Mapped[datetime]
    kept_at: Mapped[datetime] = mapped_column(server_default=func.now())
    blob_key: Mapped[str]


class Installation(Base):
    """The single row that identifies this installation. A restored dump has the same ID."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[uuid.UUID] = mapped_column(server_default=text("gen_random_uuid()"))


class OrphanBlob(Base):
    """A blob that no row names, as ``clean_up`` found it."""

    __tablename__ = "orphan_blobs"

    key: Mapped[str] = mapped_column(primary_key=True)
    #: The start of the latest run that found it without a row.
    seen_at: Mapped[datetime]
    #: When it was marked, to be removed some days later. Null if it was only found.
    marked_at: Mapped[datetime | None]
