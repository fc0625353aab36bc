"""Requests and answers of ``/v1/models``, ``/v1/trainings`` and ``/v1/validations``; see
:mod:`services.api.common.schemas`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from actors.facts import rounding
from db.tables.models import NoiseModel, Promotion
from db.tables.training import TrainingClip, TrainingJob, Validation
from services.api.common.parameters import ByTime, CreatedPage, Few, JobState
from services.api.common.schemas import AsyncTask, task_of
from services.http.cursors import PageQuery


class Model(msgspec.Struct, kw_only=True):
    """A classifier."""

    id: uuid.UUID
    name: str
    version: str
    algorithm: str
    classes: list[str]
    #: Types that the model was trained on in addition to the base types, or refines; they need the
    #: backbone. Empty for a model that was trained on classes alone.
    trained_types: list[str]
    sha256: str
    is_shipped: bool
    #: Whether new sessions use this model by default.
    in_use: bool
    created_at: datetime
    #: Accuracy on whole clips held out in cross-validation. For a model that was not trained here,
    #: the value in its file, or null.
    clip_accuracy: float | None
    #: Counts, per-class precision and recall, confusion matrix, calibration, hashes, versions.
    #: Null in lists.
    card: dict[str, Any] | None = None

    @classmethod
    def of(cls, row: NoiseModel, *, in_use: bool, with_card: bool = False) -> Model:
        """Convert a row to a model."""
        own = ("id", "name", "version", "sha256", "is_shipped", "created_at")
        return cls(
            **{name: getattr(row, name) for name in own},
            algorithm=str(row.header.get("algorithm", "")),
            classes=list(row.header["classes"]),
            trained_types=list(row.header.get("trained_types", ())),
            in_use=in_use,
            clip_accuracy=None if row.clip_accuracy is None else rounding.share(row.clip_accuracy),
            card=dict(row.card) if with_card and row.card is not None else None,
        )


class Backbone(msgspec.Struct, kw_only=True):
    """The network trained on AudioSet, whose weights are downloaded."""

    name: str
    sha256: str
    #: Whether this server has the file. Workers on other machines have their own copies; ``clamor
    #: health`` shows whether they use them.
    present: bool


class ModelPage(msgspec.Struct, kw_only=True):
    """A page of models, without their cards."""

    items: list[Model]
    next_cursor: str | None
    #: Null if ``CLAMOR_BACKBONE_URL`` is ``off``.
    backbone: Backbone | None


class RefusedClip(msgspec.Struct, kw_only=True):
    """A clip that was not used, with the reason."""

    file: str
    label: str
    start_s: float | None
    end_s: float | None
    reason: str


class Training(AsyncTask, kw_only=True):
    """The training of a model: ``pending``, then ``completed`` or ``failed``."""

    name: str
    version: str
    algorithm: str | None
    clips_total: int
    clips_refused: list[RefusedClip]
    model_id: uuid.UUID | None
    #: Limitations of the metrics of the model; its card contains them too.
    warnings: list[str]

    @classmethod
    def of(
        cls,
        row: TrainingJob,
        *,
        n_clips: int,
        refused: Sequence[TrainingClip],
        model: NoiseModel | None = None,
    ) -> Training:
        """Convert a row to a training; ``refused`` are the clips that could not be used."""
        return cls(
            **task_of(row),
            name=row.name,
            algorithm=row.algorithm,
            model_id=row.model_id,
            version=str(row.version),
            warnings=[] if model is None else list(model.header.get("warnings", ())),
            clips_total=n_clips,
            clips_refused=[
                RefusedClip(
                    file=clip.file_name,
                    label=clip.label,
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    reason=clip.reason or "",
                )
                for clip in refused
            ],
        )


class ValidationReport(AsyncTask, kw_only=True):
    """The validation of a model: ``pending``, then ``completed`` or ``failed``.

    ``report`` contains ``passed`` and ``checks`` and, if a labelled set was sent, ``figures`` and
    the counts behind them. ``model_id`` is null for a file that did not pass.
    """

    model_id: uuid.UUID | None
    report: dict[str, Any] | None

    @classmethod
    def of(cls, row: Validation) -> ValidationReport:
        """Convert a row to a validation."""
        return cls(
            **task_of(row),
            model_id=row.model_id,
            report=None if row.report is None else dict(row.report),
        )


class PromotionRecord(msgspec.Struct, kw_only=True):
    """A promotion of a model."""

    model_id: uuid.UUID
    promoted_at: datetime
    forced: bool
    comparison: dict[str, Any]

    @classmethod
    def of(cls, row: Promotion) -> PromotionRecord:
        """Convert a row to a promotion."""
        return cls(**{name: getattr(row, name) for name in cls.__struct_fields__})


class ModelQuery(PageQuery, kw_only=True):
    """Order of the list of models."""

    #: The field to sort by; ``-`` sorts descending.
    sort: ByTime = "-created_at"


class JobQuery(CreatedPage, kw_only=True):
    """Filters and order of the lists of trainings and of validations."""

    #: Only this state; repeat the parameter for several.
    state: Annotated[tuple[JobState, ...], Few] = ()
    #: The field to sort by; ``-`` sorts descending.
    sort: ByTime = "-created_at"


class ListedTraining(AsyncTask, kw_only=True):
    """A training without its clips; ``GET /v1/trainings/{job_id}`` returns those too."""

    name: str
    version: str
    algorithm: str | None
    model_id: uuid.UUID | None

    @classmethod
    def of(cls, row: TrainingJob) -> ListedTraining:
        """Convert a row to a training."""
        own = ("name", "algorithm", "model_id")
        values = {name: getattr(row, name) for name in own}
        return cls(**task_of(row), **values, version=str(row.version))


class TrainingPage(msgspec.Struct, kw_only=True):
    """A page of trainings."""

    items: list[ListedTraining]
    next_cursor: str | None


class ListedValidation(AsyncTask, kw_only=True):
    """A validation without its report; ``GET /v1/validations/{validation_id}`` returns it too."""

    model_id: uuid.UUID | None

    @classmethod
    def of(cls, row: Validation) -> ListedValidation:
        """Convert a row to a validation."""
        return cls(**task_of(row), model_id=row.model_id)


class ValidationPage(msgspec.Struct, kw_only=True):
    """A page of validations."""

    items: list[ListedValidation]
    next_cursor: str | None
