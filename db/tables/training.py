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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The training's ID.")
    name: Mapped[str] = mapped_column(comment="The name of the model.")
    version: Mapped[int] = mapped_column(
        comment=(
            "The version of the model, counted from 1 for each name; a failed training keeps "
            "its number."
        )
    )
    algorithm: Mapped[str | None] = mapped_column(
        comment="The algorithm; null if the worker shall choose the best."
    )
    seed: Mapped[int] = mapped_column(comment="The seed of the random numbers.")
    model_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("noise_models.id"), comment="The model; null until there is one."
    )


class TrainingClip(Base):
    """One labelled recording, or a labelled interval of one, and its outcome."""

    __tablename__ = "training_clips"
    __table_args__ = (
        CheckConstraint(one_of("outcome", CLIP_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome = 'refused') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("start_s >= 0 AND end_s > start_s", name="times"),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("training_jobs.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The training.",
    )
    clip_index: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="0, 1, 2, ... in the order of the manifest."
    )
    file_name: Mapped[str] = mapped_column(
        comment="The client's name for the file: shown, never used as a path."
    )
    label: Mapped[str] = mapped_column(comment="The noise type.")
    source: Mapped[str] = mapped_column(
        comment="The source of the clip: clips of one source are never on both sides of a fold."
    )
    start_s: Mapped[float | None] = mapped_column(
        comment=(
            "The start of the clip in its file, in seconds; null if the whole file is the clip."
        )
    )
    end_s: Mapped[float | None] = mapped_column(
        comment="The end of the clip in its file, in seconds; null if the whole file is the clip."
    )
    blob_key: Mapped[str | None] = mapped_column(
        comment="The key of the audio; null if it is a session's recording, or was not uploaded."
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        comment=(
            "The session whose recording is the audio. Not a foreign key: the label outlives it."
        )
    )
    outcome: Mapped[str | None] = mapped_column(
        comment="Whether it was used; null until the training has ended."
    )
    reason: Mapped[str | None] = mapped_column(
        comment="Why it was not used; null unless it was refused."
    )


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

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The validation's ID.")
    model_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("noise_models.id"),
        comment="The model; null for the file of an unregistered model, until it has passed.",
    )
    file_key: Mapped[str | None] = mapped_column(
        comment="The key of the model file; null if a registered model is validated."
    )
    labelled: Mapped[LabelledSet | None] = mapped_column(
        JSONB,
        comment="The labelled set, recordings with their labels; null to check only integrity.",
    )
    set_sha256: Mapped[str | None] = mapped_column(
        comment=(
            "The hash of the set's labels and audio: validations with the same hash are comparable."
        )
    )
    report: Mapped[JsonObject | None] = mapped_column(
        JSONB, comment="The checks and figures; null until it has ended."
    )
