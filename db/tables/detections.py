"""The table of detections."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TypedDict

from sqlalchemy import CheckConstraint, Computed, Double, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Owned

#: The ID of a detection: a UUID of version 8 (RFC 9562) from the SHA-256 of its session's ID, as 16
#: bytes, and its index, as decimal digits. So a session that is aggregated again, or restored from
#: elsewhere, has detections with the same IDs. Postgres computes it, so that no row is without.
DETECTION_ID = (
    "left(overlay(overlay(encode(sha256(uuid_send(session_id) || (event_index::text)::bytea),"
    " 'hex') placing '8' from 13) placing '8' from 17), 32)::uuid"
)


class StoredCandidate(TypedDict):
    """A possible noise type of a detection, and its probability."""

    noise_type: str
    score: float


class NoiseDetection(Owned, Base):
    """One detection: noise type, time, levels and confidence.

    ``user_id`` is that of its session, by which the detections of a user are found in order.
    """

    __tablename__ = "noise_detections"
    __table_args__ = (
        CheckConstraint("end_s > start_s", name="times"),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence"),
        # The sessions with a noise type, by confidence.
        Index("ix_noise_detections_heard", "noise_type", "session_id", "confidence"),
        Index("ix_noise_detections_id", "id", unique=True),
        # A user's detections by time.
        Index("ix_noise_detections_user_heard", "user_id", "heard_at", "id"),
        # The detections of all users by time, for administrators.
        Index("ix_noise_detections_heard_at", "heard_at", "id"),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    #: 0, 1, 2, ... in the order of the onsets.
    event_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[uuid.UUID] = mapped_column(Computed(DETECTION_ID, persisted=True))
    #: ``recorded_at`` of its session plus ``start_s``; null without that. A recording time is found
    #: before detections are, and does not change afterwards.
    heard_at: Mapped[datetime | None]
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
