"""The table of the runs of steps."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base


class ProcessingMetric(Base):
    """One run of one step: its duration and its result."""

    __tablename__ = "processing_metrics"
    __table_args__ = (
        PrimaryKeyConstraint("recorded_at", "id"),
        Index("ix_processing_metrics_session_id", "session_id"),
        CheckConstraint("num_nonnulls(session_id, job_id) = 1", name="subject"),
        {"postgresql_partition_by": "RANGE (recorded_at)"},
    )

    id: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=True),
        comment="Numbers the runs in the order of their ends.",
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The session that the step worked on; null for other work. Not a foreign key: the row "
            "outlives it, and is removed with its month."
        )
    )
    job_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The training, validation, batch or the like; null for a session. The step "
            "determines the table, so it is not a foreign key."
        )
    )
    step: Mapped[str] = mapped_column(comment="The name of the step.")
    span_index: Mapped[int | None] = mapped_column(
        comment="The span of the session; null if the step works on the whole session."
    )
    attempt: Mapped[int] = mapped_column(SmallInteger, comment="The number of the claim.")
    result: Mapped[str] = mapped_column(
        comment="How the run ended; actors/execution/run_log.py explains the values."
    )
    duration_s: Mapped[float] = mapped_column(comment="The duration in seconds.")
    recorded_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When the run ended."
    )
