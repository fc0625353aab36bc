"""The table of the runs of steps."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class ProcessingMetric(Base):
    """One run of one step: its duration and its result."""

    __tablename__ = "processing_metrics"
    __table_args__ = (
        Index("ix_processing_metrics_session_id", "session_id"),
        Index("ix_processing_metrics_recorded_at", "recorded_at"),
        CheckConstraint("num_nonnulls(session_id, job_id) = 1", name="subject"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="CASCADE")
    )
    #: The ID of a training, a validation, a batch or the like. The step determines its table, so
    #: there is no foreign key.
    job_id: Mapped[uuid.UUID | None]
    step: Mapped[str]
    span_index: Mapped[int | None]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    #: As in the log; ``actors/execution/run_log.py`` explains the values.
    result: Mapped[str]
    duration_s: Mapped[float]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())
