"""The table of what sessions are sorted and filtered by, known once they are processed."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Owned, one_of

#: The final states of a session.
FINAL_STATES = ("completed", "partial", "failed", "cancelled")


class SessionResult(Owned, Base):
    """What lists of sessions are sorted and filtered by, once it is known.

    The row is added when the recording is decoded, or else at the end of the session. So the
    indexes of these columns are written once, and the end of a session is a HOT update of its row
    in ``audio_sessions``. The owner and the time of creation are copies, for the indexes.
    """

    __tablename__ = "session_results"
    __table_args__ = (
        CheckConstraint(one_of("outcome", FINAL_STATES), name="outcome"),
        CheckConstraint("num_nulls(outcome, finished_at) <> 1", name="end"),
        # A user's lists: docs/lists.md.
        Index("ix_session_results_user_duration", "user_id", "duration_s", "session_id"),
        Index("ix_session_results_user_finished", "user_id", "finished_at", "session_id"),
        Index(
            "ix_session_results_user_outcome",
            "user_id",
            "outcome",
            "created_at",
            "session_id",
            postgresql_where=text("outcome IS NOT NULL"),
        ),
        Index(
            "ix_session_results_user_confidence",
            "user_id",
            "max_confidence",
            postgresql_where=text("max_confidence IS NOT NULL"),
        ),
        # Sessions that may be past their retention.
        Index(
            "ix_session_results_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session.",
    )
    created_at: Mapped[datetime] = mapped_column(comment="When the session was posted.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it ended; null until then.")
    duration_s: Mapped[float | None] = mapped_column(
        comment="The length of the decoded recording in seconds; null if it was not decoded."
    )
    max_confidence: Mapped[float | None] = mapped_column(
        comment="The greatest confidence of its detections; null without any."
    )
    outcome: Mapped[str | None] = mapped_column(
        comment="The final state of the session; null until its end."
    )
