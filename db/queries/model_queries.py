"""Every question about models: how they come to be, how good they are, which one is in use."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, insert, or_, select, true, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db.queries.session_queries import is_of
from db.queue import claims
from db.tables.analyses import Analysis
from db.tables.exports import Export
from db.tables.job_runs import JobRun
from db.tables.models import NoiseModel, Promotion
from db.tables.reports import DailyReport
from db.tables.training import TrainingClip, TrainingJob, Validation

#: The table of a job.
Job = (
    type[TrainingJob]
    | type[Validation]
    | type[JobRun]
    | type[Export]
    | type[DailyReport]
    | type[Analysis]
)


@dataclass(frozen=True, kw_only=True)
class JobWork(claims.Unit):
    """A training, a validation, or another piece of work that is a row of its own."""

    job: Job
    id: uuid.UUID
    state: str = "pending"

    @property
    def table(self) -> Job:
        return self.job

    @property
    def names(self) -> dict[str, Any]:
        return {"job_id": self.id}

    @property
    def origin(self) -> tuple[Job, uuid.UUID]:
        return self.job, self.id

    def waits(self) -> ColumnElement[bool]:
        return and_(self.job.id == self.id, self.job.state == self.state)


# --- trainings and validations -----------------------------------------------------------------


def note_progress(db: Session, work: JobWork, *, attempt: int, percent: int, stage: str) -> bool:
    """Say how far a job is; False if the claim was lost."""
    return claims.update_held(db, work, attempt, {"percent": percent, "stage": stage})


def take_stalled_jobs(db: Session, job: Job, *, quiet_s: float, limit: int) -> list[JobWork]:
    """Jobs of a table that are due and that nobody was told of lately; now somebody is."""
    waiting = (
        select(job.id)
        .where(job.state == "pending")
        .where(*claims.quiet(job, quiet_s))
        .order_by(job.due_at)
        .limit(limit)
    )
    rows = db.scalars(
        update(job)
        .where(job.id.in_(waiting))
        .values(nudged_at=func.clock_timestamp())
        .returning(job.id),
        execution_options={"synchronize_session": False},
    )
    return [JobWork(job=job, id=job_id) for job_id in rows]


def name_model(db: Session, work: JobWork, model_id: uuid.UUID) -> None:
    """Say which model a job is about, once it has ended."""
    db.execute(update(work.job).where(work.job.id == work.id).values(model_id=model_id))


def add_training(
    db: Session, clips: Sequence[Mapping[str, Any]], *, name: str, **values: Any
) -> TrainingJob:
    """Write down a training with its clips, as the next version of its name."""
    # Two trainings of one name take their numbers one after the other.
    db.execute(select(func.pg_advisory_xact_lock(VERSION_LOCK, func.hashtext(name))))
    newest = select(func.coalesce(func.max(TrainingJob.version), 0) + 1).where(
        TrainingJob.name == name
    )
    job = db.execute(
        insert(TrainingJob)
        .values(state="pending", name=name, version=newest.scalar_subquery(), **values)
        .returning(TrainingJob)
    ).scalar_one()
    rows = [{"job_id": job.id, "clip_index": index, **clip} for index, clip in enumerate(clips)]
    db.execute(insert(TrainingClip), rows)
    return job


#: The first half of the advisory locks that order the versions of a name.
VERSION_LOCK = 0x76657273


def get_training(
    db: Session, job_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> TrainingJob | None:
    """One training, as it stands; with an owner only if it is theirs."""
    return db.scalars(
        select(TrainingJob).where(TrainingJob.id == job_id, is_of(TrainingJob, owner))
    ).one_or_none()


def clips_of(db: Session, job_id: uuid.UUID) -> Sequence[TrainingClip]:
    """The clips of a training, in the order of its manifest."""
    return db.scalars(
        select(TrainingClip).where(TrainingClip.job_id == job_id).order_by(TrainingClip.clip_index)
    ).all()


def count_clips(db: Session, job_id: uuid.UUID) -> int:
    """How many clips a training was given."""
    return db.execute(
        select(func.count()).select_from(TrainingClip).where(TrainingClip.job_id == job_id)
    ).scalar_one()


def refused_clips(db: Session, job_id: uuid.UUID) -> Sequence[TrainingClip]:
    """The clips of a training that could not be used, in the order of its manifest."""
    return db.scalars(
        select(TrainingClip)
        .where(TrainingClip.job_id == job_id, TrainingClip.outcome == "refused")
        .order_by(TrainingClip.clip_index)
    ).all()


def note_outcomes(db: Session, job_id: uuid.UUID, reasons: Mapping[int, str | None]) -> None:
    """Write what became of each clip: None if it was used, else why it was refused."""
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
        db.execute(update(TrainingClip), rows)


def add_validation(db: Session, **values: Any) -> Validation:
    """Write down a validation to be done."""
    return db.execute(
        insert(Validation).values(state="pending", **values).returning(Validation)
    ).scalar_one()


def get_validation(
    db: Session, validation_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> Validation | None:
    """One validation, as it stands; with an owner only if it is theirs."""
    return db.scalars(
        select(Validation).where(Validation.id == validation_id, is_of(Validation, owner))
    ).one_or_none()


def named_keys(db: Session, folders: Mapping[uuid.UUID, Sequence[str]]) -> set[str]:
    """Which of the blobs in the folders of some trainings a clip or a model names."""
    keys = [key for of_job in folders.values() for key in of_job]
    clips = select(TrainingClip.blob_key).where(TrainingClip.job_id.in_(list(folders)))
    models = (
        select(column).where(column.in_(keys))
        for column in (NoiseModel.blob_key, NoiseModel.confusion_key)
    )
    return {key for key in db.scalars(clips.union(*models)) if key is not None}


# --- models and promotions ---------------------------------------------------------------------


def register_model(db: Session, **values: Any) -> uuid.UUID:
    """The id of the model with this hash; written down if it was not known."""
    db.execute(
        postgresql.insert(NoiseModel)
        .values(id=uuid.uuid4(), **values)
        .on_conflict_do_nothing(index_elements=["sha256"])
    )
    return db.execute(
        select(NoiseModel.id).where(NoiseModel.sha256 == values["sha256"])
    ).scalar_one()


def register_shipped(db: Session, *, blob_key: str, **values: Any) -> uuid.UUID:
    """The same for a model that comes with the package; an earlier release kept no file of it."""
    model_id = register_model(db, blob_key=blob_key, is_shipped=True, **values)
    db.execute(
        update(NoiseModel)
        .where(NoiseModel.id == model_id, NoiseModel.blob_key.is_(None))
        .values(blob_key=blob_key, is_shipped=True)
    )
    return model_id


def is_seen_by(owner: uuid.UUID | None) -> ColumnElement[bool]:
    """Whether a model may be known to a user: it is theirs, or it shipped, or it was promoted and
    has heard everybody's recordings. Without an owner every model is."""
    if owner is None:
        return true()
    promoted = select(Promotion.model_id).where(Promotion.model_id == NoiseModel.id).exists()
    return or_(NoiseModel.user_id == owner, NoiseModel.is_shipped, promoted)


def get_model(
    db: Session, model_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> NoiseModel | None:
    """One model that is known to the store; with an owner only if they may know of it."""
    return db.scalars(
        select(NoiseModel).where(NoiseModel.id == model_id, is_seen_by(owner))
    ).one_or_none()


def latest_promotion(db: Session) -> Promotion | None:
    """The promotion that counts."""
    return db.scalars(select(Promotion).order_by(Promotion.id.desc()).limit(1)).one_or_none()


def promoted_model_id(db: Session) -> uuid.UUID | None:
    """The model that was promoted last; None while none was."""
    promotion = latest_promotion(db)
    return None if promotion is None else promotion.model_id


def model_in_use(db: Session) -> NoiseModel | None:
    """The model that new sessions are given: the promoted one, else the newest that shipped."""
    promoted = promoted_model_id(db)
    if promoted is not None:
        return db.get(NoiseModel, promoted)
    return db.scalars(
        select(NoiseModel)
        .where(NoiseModel.is_shipped)
        .order_by(NoiseModel.created_at.desc())
        .limit(1)
    ).one_or_none()


#: Held while a model is compared with the one in use and takes its place.
PROMOTION_LOCK = 0x70726F6D6F7465


def lock_promotions(db: Session) -> None:
    """Let nobody else promote until the end of the transaction."""
    db.execute(select(func.pg_advisory_xact_lock(PROMOTION_LOCK)))


def add_promotion(db: Session, **values: Any) -> Promotion:
    """Put a model to use."""
    return db.execute(insert(Promotion).values(**values).returning(Promotion)).scalar_one()


def shared_validations(
    db: Session, one: uuid.UUID, other: uuid.UUID
) -> tuple[Validation, Validation] | None:
    """The newest results of two models on the set that was last used on both."""
    newest = {model_id: _newest_by_set(db, model_id) for model_id in (one, other)}
    pairs = [
        (newest[one][sha256], newest[other][sha256])
        for sha256 in newest[one].keys() & newest[other].keys()
    ]
    return max(
        pairs,
        key=lambda pair: max(each.finished_at for each in pair if each.finished_at),
        default=None,
    )


def _newest_by_set(db: Session, model_id: uuid.UUID) -> dict[str, Validation]:
    rows = db.scalars(
        select(Validation)
        .ext(postgresql.distinct_on(Validation.set_sha256))
        .where(
            Validation.model_id == model_id,
            Validation.state == "completed",
            Validation.set_sha256.is_not(None),
            # A file that did not pass was not listened with.
            Validation.report.has_key("figures"),
        )
        .order_by(Validation.set_sha256, Validation.finished_at.desc())
    )
    return {row.set_sha256: row for row in rows if row.set_sha256 is not None}
