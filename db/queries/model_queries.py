"""Queries for models: their trainings, validations and promotions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import and_, func, insert, literal_column, or_, select, true, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.ids import new_id
from db.queries.session_queries import is_of
from db.queue import claims
from db.statements import CompiledStatement
from db.tables.base import JobRow, JsonObject
from db.tables.models import NoiseModel, Promotion
from db.tables.training import LabelledSet, TrainingClip, TrainingJob, Validation


@dataclass(frozen=True, kw_only=True)
class JobWork(claims.WorkItem):
    """A training, a validation, or another work item with a row in a table of jobs."""

    job: type[JobRow]
    id: uuid.UUID
    state: str = "pending"

    @property
    def table(self) -> type[JobRow]:
        return self.job

    @property
    def names(self) -> dict[str, uuid.UUID]:
        return {"job_id": self.id}

    @property
    def origin(self) -> tuple[type[JobRow], uuid.UUID]:
        return self.job, self.id

    def waits(self) -> ColumnElement[bool]:
        return and_(self.job.id == self.id, self.job.state == self.state)


class JobDone(TypedDict):
    """What every job writes at its end, besides its state."""

    percent: int
    stage: str


# --- trainings and validations -----------------------------------------------------------------


def note_progress(tx: Session, work: JobWork, *, attempt: int, percent: int, stage: str) -> bool:
    """Write the progress of a job; False if the claim was lost."""
    return claims.update_held(tx, work, attempt, {"percent": percent, "stage": stage})


def name_model(tx: Session, work: JobWork, model_id: uuid.UUID) -> None:
    """Set the model of a finished job."""
    tx.execute(update(work.job).where(work.job.id == work.id).values(model_id=model_id))


class NewTrainingRow(TypedDict):
    """The columns of a new training, besides its name and version."""

    id: uuid.UUID
    seed: int
    algorithm: NotRequired[str | None]
    user_id: NotRequired[uuid.UUID | None]
    traceparent: NotRequired[str | None]


class NewTrainingClipRow(TypedDict):
    """The columns of a clip of a new training, besides the training and the index."""

    file_name: str
    label: str
    source: str
    start_s: NotRequired[float | None]
    end_s: NotRequired[float | None]
    blob_key: NotRequired[str | None]
    session_id: NotRequired[uuid.UUID | None]


def add_training(
    tx: Session,
    clips: Sequence[NewTrainingClipRow],
    *,
    name: str,
    **values: Unpack[NewTrainingRow],
) -> TrainingJob:
    """Add a training with its clips, as the next version of its name."""
    # Concurrent trainings of one name get their numbers one after the other.
    tx.execute(select(func.pg_advisory_xact_lock(VERSION_LOCK, func.hashtext(name))))
    newest = select(func.coalesce(func.max(TrainingJob.version), 0) + 1).where(
        TrainingJob.name == name
    )
    job = tx.execute(
        insert(TrainingJob)
        .values(state="pending", name=name, version=newest.scalar_subquery(), **values)
        .returning(TrainingJob)
    ).scalar_one()
    rows = [{"job_id": job.id, "clip_index": index, **clip} for index, clip in enumerate(clips)]
    tx.execute(insert(TrainingClip), rows)
    return job


#: The first half of the advisory locks that order the versions of a name.
VERSION_LOCK = 0x76657273


def get_training(
    tx: Session, job_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> TrainingJob | None:
    """Return a training, or None; with an owner only if it is theirs."""
    return tx.scalars(
        select(TrainingJob).where(TrainingJob.id == job_id, is_of(TrainingJob, owner))
    ).one_or_none()


def clips_of(tx: Session, job_id: uuid.UUID) -> Sequence[TrainingClip]:
    """Return the clips of a training, in the order of its manifest."""
    return tx.scalars(
        select(TrainingClip).where(TrainingClip.job_id == job_id).order_by(TrainingClip.clip_index)
    ).all()


def count_clips(tx: Session, job_id: uuid.UUID) -> int:
    """Count the clips of a training."""
    return tx.execute(
        select(func.count()).select_from(TrainingClip).where(TrainingClip.job_id == job_id)
    ).scalar_one()


def refused_clips(tx: Session, job_id: uuid.UUID) -> Sequence[TrainingClip]:
    """Return the refused clips of a training, in the order of its manifest."""
    return tx.scalars(
        select(TrainingClip)
        .where(TrainingClip.job_id == job_id, TrainingClip.outcome == "refused")
        .order_by(TrainingClip.clip_index)
    ).all()


def note_outcomes(tx: Session, job_id: uuid.UUID, reasons: Mapping[int, str | None]) -> None:
    """Write the outcome of each clip: None if it was used, else why it was refused."""
    rows = [
        {
            "job_id": job_id,
            "clip_index": index,
            "outcome": "used" if reason is None else "refused",
            "reason": reason,
        }
        for index, reason in reasons.items()
    ]
    if rows:
        tx.execute(update(TrainingClip), rows)


class RequestedValidation(TypedDict, total=False):
    """The columns of a validation that its request sets: of a model, or of the file of one."""

    model_id: uuid.UUID
    file_key: str
    labelled: LabelledSet
    set_sha256: str


class NewValidationRow(RequestedValidation):
    """The columns of a new validation."""

    id: uuid.UUID
    user_id: NotRequired[uuid.UUID | None]
    traceparent: NotRequired[str | None]


class ValidateDone(JobDone):
    """What a validation writes at its end."""

    report: JsonObject


def add_validation(tx: Session, **values: Unpack[NewValidationRow]) -> Validation:
    """Add a validation to be done."""
    return tx.execute(
        insert(Validation).values(state="pending", **values).returning(Validation)
    ).scalar_one()


def get_validation(
    tx: Session, validation_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> Validation | None:
    """Return a validation, or None; with an owner only if it is theirs."""
    return tx.scalars(
        select(Validation).where(Validation.id == validation_id, is_of(Validation, owner))
    ).one_or_none()


def named_keys(tx: Session, folders: Mapping[uuid.UUID, Sequence[str]]) -> set[str]:
    """Return the blobs in the folders of trainings that a clip or a model names."""
    keys = [key for of_job in folders.values() for key in of_job]
    clips = select(TrainingClip.blob_key).where(TrainingClip.job_id.in_(list(folders)))
    models = (
        select(column).where(column.in_(keys))
        for column in (NoiseModel.blob_key, NoiseModel.confusion_key)
    )
    return {key for key in tx.scalars(clips.union(*models)) if key is not None}


# --- models and promotions ---------------------------------------------------------------------


class NewModelRow(TypedDict):
    """The columns of a new model, besides its ID."""

    name: str
    version: str
    sha256: str
    header: JsonObject
    blob_key: str
    card: NotRequired[JsonObject | None]
    confusion_key: NotRequired[str]
    user_id: NotRequired[uuid.UUID | None]
    is_shipped: NotRequired[bool]


def register_model(tx: Session, **values: Unpack[NewModelRow]) -> uuid.UUID:
    """Register a model unless its hash exists; return the ID of the model with this hash."""
    tx.execute(
        postgresql.insert(NoiseModel)
        .values(id=new_id(), **values)
        .on_conflict_do_nothing(index_elements=["sha256"])
    )
    return tx.execute(
        select(NoiseModel.id).where(NoiseModel.sha256 == values["sha256"])
    ).scalar_one()


def is_seen_by(owner: uuid.UUID | None) -> ColumnElement[bool]:
    """Return the condition of models that a user may see; all models without an owner.

    These are the user's own, shipped ones, and promoted ones, which analysed all users' recordings.
    """
    if owner is None:
        return true()
    promoted = select(Promotion.model_id).where(Promotion.model_id == NoiseModel.id).exists()
    return or_(NoiseModel.user_id == owner, NoiseModel.is_shipped, promoted)


def get_model(
    tx: Session, model_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> NoiseModel | None:
    """Return a model, or None; with an owner only if they may see it."""
    return tx.scalars(
        select(NoiseModel).where(NoiseModel.id == model_id, is_seen_by(owner))
    ).one_or_none()


def latest_promotion(tx: Session) -> Promotion | None:
    """Return the latest promotion, which is in effect."""
    return tx.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(1)).one_or_none()


def promoted_model_id(tx: Session) -> uuid.UUID | None:
    """Return the ID of the model promoted last, or None."""
    promoted = _PROMOTED.run(tx).fetchone()
    return None if promoted is None else promoted.model_id


_PROMOTED = CompiledStatement(
    select(Promotion.model_id).order_by(Promotion.id.desc()).limit(literal_column("1"))
)


def model_in_use(tx: Session) -> NoiseModel | None:
    """Return the model for new sessions: the promoted one, else the newest shipped one."""
    promoted = promoted_model_id(tx)
    if promoted is not None:
        return tx.get(NoiseModel, promoted)
    return tx.scalars(
        select(NoiseModel)
        .where(NoiseModel.is_shipped)
        .order_by(NoiseModel.created_at.desc())
        .limit(1)
    ).one_or_none()


#: Held while a model is compared with the one in use and replaces it.
PROMOTION_LOCK = 0x70726F6D6F7465


def lock_promotions(tx: Session) -> None:
    """Lock promotions until the end of the transaction."""
    tx.execute(select(func.pg_advisory_xact_lock(PROMOTION_LOCK)))


def add_promotion(
    tx: Session, *, model_id: uuid.UUID, forced: bool, comparison: JsonObject
) -> Promotion:
    """Promote a model."""
    return tx.execute(
        insert(Promotion)
        .values(model_id=model_id, forced=forced, comparison=comparison)
        .returning(Promotion)
    ).scalar_one()


def shared_validations(
    tx: Session, one: uuid.UUID, other: uuid.UUID
) -> tuple[Validation, Validation] | None:
    """Return the newest results of two models on the labelled set last used for both."""
    newest = {model_id: _newest_by_set(tx, model_id) for model_id in (one, other)}
    pairs = [
        (newest[one][sha256], newest[other][sha256])
        for sha256 in newest[one].keys() & newest[other].keys()
    ]
    return max(
        pairs,
        key=lambda pair: max(each.finished_at for each in pair if each.finished_at),
        default=None,
    )


def _newest_by_set(tx: Session, model_id: uuid.UUID) -> dict[str, Validation]:
    rows = tx.scalars(
        select(Validation)
        .ext(postgresql.distinct_on(Validation.set_sha256))
        .where(
            Validation.model_id == model_id,
            Validation.state == "completed",
            Validation.set_sha256.is_not(None),
            # A file that did not pass was not evaluated.
            Validation.report.has_key("figures"),
        )
        .order_by(Validation.set_sha256, Validation.finished_at.desc())
    )
    return {row.set_sha256: row for row in rows if row.set_sha256 is not None}
