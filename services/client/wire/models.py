"""Models, their training, validation and promotion."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from services.client.wire.tasks import AsyncTask


class Model(msgspec.Struct, kw_only=True):
    """A classifier."""

    id: uuid.UUID
    name: str
    version: str
    algorithm: str
    classes: list[str]
    trained_types: list[str]
    sha256: str
    is_shipped: bool
    in_use: bool
    created_at: datetime
    clip_accuracy: float | None
    card: dict[str, object] | None = None


class Backbone(msgspec.Struct, kw_only=True):
    """The network trained on AudioSet, whose weights are downloaded."""

    name: str
    sha256: str
    present: bool


class ModelPage(msgspec.Struct, kw_only=True):
    """A page of models, without their cards."""

    items: list[Model]
    next_cursor: str | None
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
    warnings: list[str]


class ValidationReport(AsyncTask, kw_only=True):
    """The validation of a model: ``pending``, then ``completed`` or ``failed``."""

    model_id: uuid.UUID | None
    report: dict[str, object] | None


class PromotionRecord(msgspec.Struct, kw_only=True):
    """A promotion of a model."""

    model_id: uuid.UUID
    promoted_at: datetime
    forced: bool
    comparison: dict[str, object]
