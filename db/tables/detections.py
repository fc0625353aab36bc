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
        Index("ix_noise_detections_type", "noise_type", "session_id", "confidence"),
        Index("ix_noise_detections_id", "id", unique=True),
        # A user's detections by time.
        Index("ix_noise_detections_user_heard", "user_id", "heard_at", "id"),
        # The detections of all users by time, for administrators.
        Index("ix_noise_detections_heard_at", "heard_at", "id"),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session of the recording.",
    )
    event_index: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="0, 1, 2, ... in the order of the onsets."
    )
    id: Mapped[uuid.UUID] = mapped_column(
        Computed(DETECTION_ID, persisted=True),
        comment="Of the session and the index alone, so that repeated work gives the same ID.",
    )
    heard_at: Mapped[datetime | None] = mapped_column(
        comment="The time of recording of the session plus the onset; null without that."
    )
    start_s: Mapped[float] = mapped_column(
        comment="The onset, in seconds from the start of the recording."
    )
    end_s: Mapped[float] = mapped_column(
        comment="The end, in seconds from the start of the recording."
    )
    noise_type: Mapped[str] = mapped_column(comment="The most likely noise type.")
    confidence: Mapped[float] = mapped_column(
        comment="The probability of the noise type, from 0 to 1."
    )
    laeq_db: Mapped[float | None] = mapped_column(
        comment="LAeq in dB re the session's reference; null for digital silence."
    )
    lafmax_db: Mapped[float | None] = mapped_column(
        comment="LAFmax in dB re the session's reference; null for digital silence."
    )
    lae_db: Mapped[float | None] = mapped_column(
        comment=(
            "LAE (sound exposure level) in dB re the session's reference; null also where it "
            "was not measured."
        )
    )
    lasmax_db: Mapped[float | None] = mapped_column(
        comment="LASmax in dB re the session's reference; null also where it was not measured."
    )
    lcpeak_db: Mapped[float | None] = mapped_column(
        comment="LCpeak in dB re the session's reference; null also where it was not measured."
    )
    background_la90_db: Mapped[float | None] = mapped_column(
        comment=(
            "LA90 of the background before the onset; null where too little undisturbed sound "
            "precedes it."
        )
    )
    emergence_db: Mapped[float | None] = mapped_column(
        comment="LAeq above the background in dB; null without a background."
    )
    above_background_s: Mapped[float | None] = mapped_column(
        comment="Seconds during which it exceeds the background; null without a background."
    )
    overloaded: Mapped[bool | None] = mapped_column(
        comment="Whether the recording is overloaded in it; null where that was not measured."
    )
    # From `third_octaves.FIRST_BAND` on. Only queries that ask for it read it.
    third_octaves_db: Mapped[list[float | None] | None] = mapped_column(
        ARRAY(Double),
        deferred=True,
        comment=(
            "LZeq of each third-octave band, the lowest first; null where bands were not measured."
        ),
    )
    candidates: Mapped[list[StoredCandidate]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        comment=(
            "The most likely types with their probabilities, at most five, in descending order."
        ),
    )
