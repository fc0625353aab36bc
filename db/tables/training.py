"""The tables of trainings and validations, and of their labelled recordings."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TypedDict

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import JOB_STATES, Base, JobRow, JsonObject, Owned, one_of

CLIP_OUTCOMES = ("used", "refused")


class TrainingJob(JobRow, Owned, Base):
    """The training of a model on labelled recordings."""

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
    #: The name of the model. Versions of a name count from 1; a failed training keeps its number.
    name: Mapped[str]
    version: Mapped[int]
    #: Null if the worker shall choose the best.
    algorithm: Mapped[str | None]
    seed: Mapped[int]
    #: The model, once there is one.
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noise_models.id"))


class TrainingClip(Base):
    """One labelled recording, or a labelled interval of one, and its outcome."""

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
    #: The client's name for the file: shown, never used as a path.
    file_name: Mapped[str]
    label: Mapped[str]
    #: The source of the clip: clips of one source are never on both sides of a fold.
    source: Mapped[str]
    #: Both null if the whole file is the clip.
    start_s: Mapped[float | None]
    end_s: Mapped[float | None]
    #: The audio: a blob of the job, or the recording of a session. Both null if the manifest names
    #: a file that was not uploaded. No foreign key: the label outlives the session.
    blob_key: Mapped[str | None]
    session_id: Mapped[uuid.UUID | None]
    #: Null until the job has ended.
    outcome: Mapped[str | None]
    reason: Mapped[str | None]


class LabelledRecording(TypedDict, total=False):
    """One recording of a labelled set: a clip with one label, or a recording with events."""

    file: str
    #: The audio: a blob of the validation, or the recording of a session.
    blob_key: str | None
    session_id: str | None
    #: Of a clip; both times are null if the whole file is the clip.
    label: str
    source: str
    start_s: float | None
    end_s: float | None
    #: Of a recording: ``(start_s, end_s, label)`` of each event.
    events: Sequence[tuple[float, float, str]]


class LabelledSet(TypedDict):
    """The recordings that a model is measured on: ``clips``, or recordings with ``events``."""

    kind: str
    recordings: list[LabelledRecording]


class Validation(JobRow, Owned, Base):
    """The validation of a model or of a model file."""

    __tablename__ = "validations"
    __table_args__ = (
        CheckConstraint(one_of("state", JOB_STATES), name="state"),
        CheckConstraint("percent BETWEEN 0 AND 100", name="percent"),
        CheckConstraint("num_nonnulls(model_id, file_key) > 0", name="model"),
        CheckConstraint("(labelled IS NULL) = (set_sha256 IS NULL)", name="labelled"),
        Index("ix_validations_user_created", "user_id", "created_at", "id"),
        # For promotions: the newest results of a model on labelled sets shared with another.
        Index("ix_validations_model_id", "model_id", "set_sha256", "finished_at"),
        Index(
            "ix_validations_unfinished",
            "due_at",
            postgresql_where=text("state = 'pending'"),
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    #: Null for the file of an unregistered model, until it has passed.
    model_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("noise_models.id"))
    file_key: Mapped[str | None]
    #: The labelled set: recordings with their labels; null to check only integrity.
    labelled: Mapped[LabelledSet | None] = mapped_column(JSONB)
    #: The hash of the set's labels and audio: validations with the same hash are comparable.
    set_sha256: Mapped[str | None]
    report: Mapped[JsonObject | None] = mapped_column(JSONB)
