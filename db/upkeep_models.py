"""The table of clips that outlive their recordings."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, func
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base, Owned


class KeptClip(Owned, Base):
    """One of the surest events of its type: its sound is kept when its session is removed."""

    __tablename__ = "kept_clips"
    __table_args__ = (
        CheckConstraint("end_s > start_s", name="times"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        Index("ix_kept_clips_noise_type", "user_id", "noise_type", "confidence"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    noise_type: Mapped[str]
    confidence: Mapped[float]
    #: The session that it was heard in, which is not there any more, and where in its recording.
    session_id: Mapped[uuid.UUID]
    file_name: Mapped[str]
    start_s: Mapped[float]
    end_s: Mapped[float]
    #: When the recording was sent.
    sent_at: Mapped[datetime]
    kept_at: Mapped[datetime] = mapped_column(server_default=func.now())
    blob_key: Mapped[str]
