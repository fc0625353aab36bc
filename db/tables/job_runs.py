"""The table of runs of periodic jobs: job, slot and result."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, JobRow, JsonObject, one_of

#: The origin of a run: the scheduler's tick, recovery, which fills missed slots, or a person.
RUN_SOURCES = ("clock", "steward", "person")


class JobRun(JobRow, Base):
    """One run of a periodic job. There is one per job and slot, whatever its origin."""

    __tablename__ = "job_runs"
    __table_args__ = (
        # Also finds the newest run of each job.
        UniqueConstraint("job", "slot"),
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint(one_of("source", RUN_SOURCES), name="source"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        Index(
            "ix_job_runs_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The run's ID.")
    job: Mapped[str] = mapped_column(comment="The name of the job's actor.")
    slot: Mapped[datetime] = mapped_column(
        comment="The scheduled time; for a requested run, the time of the request."
    )
    source: Mapped[str] = mapped_column(
        comment=(
            "The origin of the run: the scheduler's tick (clock), recovery (steward), or a person."
        )
    )
    options: Mapped[JsonObject] = mapped_column(
        JSONB, server_default=text("'{}'"), comment="Options that override the defaults of the job."
    )
    result: Mapped[JsonObject | None] = mapped_column(
        JSONB, comment="What the run did; null until it has succeeded."
    )
