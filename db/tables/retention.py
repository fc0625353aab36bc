"""The tables of kept clips, of the installation, and of orphaned and removed blobs."""

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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The clip's ID.")
    noise_type: Mapped[str] = mapped_column(comment="The noise type of the detection.")
    confidence: Mapped[float] = mapped_column(
        comment="The probability of the noise type, from 0 to 1."
    )
    session_id: Mapped[uuid.UUID] = mapped_column(comment="The session, which has been removed.")
    file_name: Mapped[str] = mapped_column(comment="The client's name for the recording.")
    start_s: Mapped[float] = mapped_column(
        comment="The start of the clip, in seconds from the start of the recording."
    )
    end_s: Mapped[float] = mapped_column(
        comment="The end of the clip, in seconds from the start of the recording."
    )
    sent_at: Mapped[datetime] = mapped_column(comment="When the recording was uploaded.")
    kept_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the clip was cut."
    )
    blob_key: Mapped[str] = mapped_column(comment="The key of the clip in the blob store.")


class Installation(Base):
    """The single row that identifies this installation. A restored dump has the same ID."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(
        primary_key=True,
        server_default=text("true"),
        comment="Always true, so that there is one row.",
    )
    id: Mapped[uuid.UUID] = mapped_column(
        server_default=text("gen_random_uuid()"),
        comment="The ID of the installation. A restored dump has the same one.",
    )


class OrphanBlob(Base):
    """A blob that no row names, as the job clean_up found it."""

    __tablename__ = "orphan_blobs"

    key: Mapped[str] = mapped_column(primary_key=True, comment="The key of the blob.")
    seen_at: Mapped[datetime] = mapped_column(
        comment="The start of the latest run that found it without a row."
    )
    marked_at: Mapped[datetime | None] = mapped_column(
        comment="When it was marked, to be removed some days later; null if it was only found."
    )


class RemovedBlobs(Base):
    """Blobs whose row was removed, until no worker can still be writing one of them."""

    __tablename__ = "removed_blobs"

    prefix: Mapped[str] = mapped_column(
        primary_key=True,
        comment="The prefix of their keys, which ends in a slash, or the whole key of one blob.",
    )
    finished_at: Mapped[datetime] = mapped_column(
        server_default=func.now(),
        comment=(
            "When the row was removed, or its work had ended before: once no worker can still be "
            "writing for it, the blobs are finally removed."
        ),
    )
    at_once: Mapped[bool] = mapped_column(
        server_default=text("true"), comment="Whether they are still to be removed before that too."
    )
