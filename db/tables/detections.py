"""The table of detections."""

from __future__ import annotations

import uuid
from typing import TypedDict

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class StoredCandidate(TypedDict):
    """A possible noise type of a detection, and its probability."""

    noise_type: str
    score: float


class NoiseDetection(Base):
    """One detection: noise type, time, levels and confidence."""

    __tablename__ = "noise_detections"
    __table_args__ = (
        CheckConstraint("end_s > start_s", name="times"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        # The sessions with a noise type, by confidence.
        Index("ix_noise_detections_heard", "noise_type", "session_id", "confidence"),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    #: 0, 1, 2, ... in the order of the onsets.
    event_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start_s: Mapped[float]
    end_s: Mapped[float]
    noise_type: Mapped[str]
    confidence: Mapped[float]
    #: dB re the session's ``level_reference``; null for digital silence.
    laeq_db: Mapped[float | None]
    lafmax_db: Mapped[float | None]
    #: These six are null in sessions processed before they were measured, too.
    lae_db: Mapped[float | None]
    lasmax_db: Mapped[float | None]
    lcpeak_db: Mapped[float | None]
    #: The background before the onset and how the detection stands out from it; null where too
    #: little undisturbed sound precedes it.
    background_la90_db: Mapped[float | None]
    emergence_db: Mapped[float | None]
    above_background_s: Mapped[float | None]
    #: Whether the recording is overloaded in it; null where that was not measured.
    overloaded: Mapped[bool | None]
    #: LZeq of each third-octave band, from `third_octaves.FIRST_BAND` on; null where bands were not
    #: measured. Only queries that ask for it read it.
    third_octaves_db: Mapped[list[float | None] | None] = mapped_column(
        ARRAY(Double), deferred=True
    )
    #: The most likely types, at most five, in descending order.
    candidates: Mapped[list[StoredCandidate]] = mapped_column(JSONB, server_default=text("'[]'"))
