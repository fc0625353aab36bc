"""The table of analyses of finished sessions."""

from __future__ import annotations

import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, JobRow, JsonObject, one_of

#: The one-second levels that limits may be set for: equivalent level, and maximum level F.
LIMITED = ("LAeq", "LAFmax")
#: Limits per level.
MOST_LIMITS = 20
#: From below the noise floor of any microphone, re full scale, to above the overload of any.
LIMIT_RANGE_DB = (-200.0, 250.0)


class AnalysisJob(JobRow, Base):
    """A session's analysis. Created at the session's end, and computed again on request."""

    __tablename__ = "analyses"
    __table_args__ = (
        UniqueConstraint("asking_id"),
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("jsonb_typeof(limits_db) = 'object'", name="limits_db"),
        CheckConstraint("(state = 'completed') = (result IS NOT NULL)", name="result"),
        # Without what a claim writes, so that claims and progress are HOT.
        Index(
            "ix_analyses_unfinished",
            "session_id",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(
        "session_id",
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session that is analysed.",
    )
    asking_id: Mapped[uuid.UUID] = mapped_column(
        comment="The ID of the latest request: work for an earlier request is outdated."
    )
    # The names are those in `LIMITED`.
    limits_db: Mapped[dict[str, list[float]]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        comment=(
            "The limits by the name of the level (LAeq, LAFmax), in dB re the session's reference."
        ),
    )
    # An `AnalysisResult`.
    result: Mapped[JsonObject | None] = mapped_column(
        JSONB, comment="The analysis; null until it has succeeded."
    )
