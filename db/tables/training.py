"""The tables of training: labelled recordings in, models and measurements out."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, Job, Owned, Traced, one_of

CLIP_OUTCOMES = ("used", "refused")


class TrainingJob(Job, Owned, Traced, Base):
    """A model to be learnt from labelled recordings."""

    __tablename__ = "training_jobs"
    __table_args__ = (
        UniqueConstraint("name", "version"),
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("version > 0", name="version"),
        Index("ix_training_jobs_user_created", "user_id", "created_at", "id"),
        Index("ix_training_jobs_model_id", "model_id"),
        Index(
            "ix_training_jobs_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: What the model will be called. Versions of a name count from 1; one that failed keeps its.
    name: Mapped[str]
    version: Mapped[int]
    #: Null for whatever the worker takes for the best.
    algorithm: Mapped[str | None]
    seed: Mapped[int]
    #: The model, once there is one.
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noise_models.id"))


class TrainingClip(Base):
    """One labelled recording, or a labelled stretch of one, and what became of it."""

    __tablename__ = "training_clips"
    __table_args__ = (
        CheckConstraint(one_of("outcome", CLIP_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome = 'refused') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("start_s >= 0 AND end_s > start_s", name="times"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("training_jobs.id", ondelete="CASCADE"), primary_key=True
    )
    #: 0, 1, 2, ... in the order of the manifest.
    clip_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: What the client called the file: shown, never used as a path.
    file_name: Mapped[str]
    label: Mapped[str]
    #: What the clip was cut from: clips of one source are never on both sides of a fold.
    source: Mapped[str]
    #: Both null where the whole file is the clip.
    start_s: Mapped[float | None]
    end_s: Mapped[float | None]
    #: Where the audio lies: a blob of the job's own, or the recording of a session. Neither, if
    #: the manifest named a file that was not sent. No foreign key: the label outlives the session.
    blob_key: Mapped[str | None]
    session_id: Mapped[uuid.UUID | None]
    #: Null until the job has ended.
    outcome: Mapped[str | None]
    reason: Mapped[str | None]


class Validation(Job, Owned, Traced, Base):
    """A model, or the file of one, to be looked at closely."""

    __tablename__ = "validations"
    __table_args__ = (
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("num_nonnulls(model_id, file_key) > 0", name="model"),
        CheckConstraint("(labelled IS NULL) = (set_sha256 IS NULL)", name="labelled"),
        Index("ix_validations_user_created", "user_id", "created_at", "id"),
        # What a promotion asks: the newest results of a model on sets that another has seen too.
        Index("ix_validations_model_id", "model_id", "set_sha256", "finished_at"),
        Index(
            "ix_validations_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: Null for a file of a model that is not known yet; set once it has passed.
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noise_models.id"))
    file_key: Mapped[str | None]
    #: The labelled set: its recordings with their labels; null if only integrity is asked for.
    labelled: Mapped[dict[str, Any] | None]
    #: Of the set's labels and audio: two validations with one hash can be compared.
    set_sha256: Mapped[str | None]
    report: Mapped[dict[str, Any] | None]
