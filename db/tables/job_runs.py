"""The table of the clock: which job ran for which slot, and how it ended."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, Job, Traced, one_of

#: Who wrote a run down: the scheduler's tick, recovery, who fills slots that were missed, or
#: somebody who asked for it.
RUN_SOURCES = ("clock", "steward", "person")


class JobRun(Job, Traced, Base):
    """One run of a periodic job. Of a job and a slot there is one, whoever asks for it."""

    __tablename__ = "job_runs"
    __table_args__ = (
        # Tells the newest of each job, too.
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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: The name of the job's actor.
    job: Mapped[str]
    #: The time of the schedule that it ran for; of a run that was asked for, when that was.
    slot: Mapped[datetime]
    source: Mapped[str]
    #: What the run was asked to do otherwise than usual.
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    #: What it did; null until it has ended well.
    result: Mapped[dict[str, Any] | None]
