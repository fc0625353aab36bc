"""The table of analyses: what a session that has ended comes to."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, Job, Traced, one_of

#: The levels of a second that a limit may be set for: equivalent level, and greatest level F.
LIMITED = ("LAeq", "LAFmax")
#: Limits for one of them.
MOST_LIMITS = 20
#: From beyond what any microphone hears, re full scale, to beyond what any can bear.
LIMIT_RANGE_DB = (-200.0, 250.0)


class Analysis(Job, Traced, Base):
    """A session's analysis. It is written with the session's end, and made anew when asked for."""

    __tablename__ = "analyses"
    __table_args__ = (
        UniqueConstraint("asking_id"),
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("jsonb_typeof(limits_db) = 'object'", name="limits_db"),
        CheckConstraint("(state = 'completed') = (result IS NOT NULL)", name="result"),
        Index(
            "ix_analyses_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    #: The session's.
    id: Mapped[uuid.UUID] = mapped_column(
        "session_id", ForeignKey("audio_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    #: Another one each time that it is asked for: work that began before the last is too late.
    asking_id: Mapped[uuid.UUID]
    #: By the names in `LIMITED` the limits that are looked at, in dB by the session's reference.
    limits_db: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    #: What was found; null until it has ended well.
    result: Mapped[dict[str, Any] | None]
