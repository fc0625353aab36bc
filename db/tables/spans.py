"""The table of the spans of sessions."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Claimable, one_of

SPAN_STATES = ("pending", "done", "failed")


class SessionSpan(Claimable, Base):
    """About a minute of one recording: the unit of a message.

    ``scores`` holds the class probabilities of the span's frames of 0.1 s, little-endian float16
    ``[n_steps, n_classes]`` in the order of the model's classes.
    """

    __tablename__ = "session_spans"
    __table_args__ = (
        CheckConstraint(one_of("state", SPAN_STATES), name="state"),
        CheckConstraint("stop_sample > start_sample", name="samples"),
        # No index but the key, so that the claims and the end of a span are HOT updates. A session
        # has some thousand spans at most.
        {"postgresql_with": {"fillfactor": 50}},
    )

    session_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The session.",
    )
    span_index: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="0, 1, 2, ... in chronological order."
    )
    start_sample: Mapped[int] = mapped_column(
        BigInteger, comment="The first sample, at 16 kHz on the session's grid."
    )
    stop_sample: Mapped[int] = mapped_column(BigInteger, comment="The sample after the last one.")
    started_at: Mapped[datetime | None] = mapped_column(comment="When a worker first claimed it.")
    scores: Mapped[bytes | None] = mapped_column(
        comment=(
            "The class probabilities of its frames of 0.1 s: little-endian float16 [n_steps, "
            "n_classes], the classes in the order of the model's; null until done, and where the "
            "session was processed in one claim, which needs none."
        )
    )
