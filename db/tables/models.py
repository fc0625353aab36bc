"""The tables of models and their promotions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, JsonObject, Owned


class ModelHeader(TypedDict, total=False):
    """The parts of a model file's header that are read from the row."""

    name: str
    version: str
    algorithm: str
    classes: list[str]
    trained_types: list[str]
    warnings: list[str]
    #: The results of its training, for models that were not trained here.
    training: JsonObject


class NoiseModel(Owned, Base):
    """A classifier: its name, its version, the hash of its file, and its accuracy."""

    __tablename__ = "noise_models"
    __table_args__ = (
        UniqueConstraint("sha256"),
        Index("ix_noise_models_created_at", "created_at"),
        Index("ix_noise_models_user_id", "user_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="The model's ID.")
    name: Mapped[str] = mapped_column(comment="The name, which its versions share.")
    version: Mapped[str] = mapped_column(
        comment="The version, unique for models that were trained here."
    )
    sha256: Mapped[str] = mapped_column(comment="The hash of the model file.")
    blob_key: Mapped[str] = mapped_column(comment="The key of the model file in the blob store.")
    header: Mapped[ModelHeader] = mapped_column(JSONB, comment="The header of the model file.")
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was registered."
    )
    is_shipped: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment=(
            "Whether it came with a release. The newest such model is used until one is promoted."
        ),
    )
    card: Mapped[JsonObject | None] = mapped_column(
        JSONB, comment="The results of its training; null for models that were not trained here."
    )
    confusion_key: Mapped[str | None] = mapped_column(
        comment="The key of the picture of its confusion matrix; null without a card."
    )

    @property
    def clip_accuracy(self) -> float | None:
        """The share of held-out clips classified correctly in cross-validation; None if unknown."""
        stored = self._trained.get("clip_accuracy")
        return float(stored) if isinstance(stored, int | float) and 0 <= stored <= 1 else None

    @property
    def data_sha256(self) -> str | None:
        """The hash of the clips that it was trained on; None if unknown."""
        stored = self._trained.get("data_sha256")
        return stored if isinstance(stored, str) else None

    @property
    def _trained(self) -> JsonObject:
        """Its card; for a model that was not trained here, the training section of its file."""
        stored = self.card or self.header.get("training")
        return stored if isinstance(stored, Mapping) else {}


class Promotion(Base):
    """The promotion of a model. Rows are added and never changed; the newest one counts."""

    __tablename__ = "promotions"
    __table_args__ = (Index("ix_promotions_model_id", "model_id"),)

    id: Mapped[int] = mapped_column(
        BigInteger,
        Identity(always=True),
        primary_key=True,
        comment="Numbers the promotions; the highest one counts.",
    )
    model_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("noise_models.id"), comment="The model that was promoted."
    )
    promoted_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was promoted."
    )
    forced: Mapped[bool] = mapped_column(
        comment="Whether it was promoted although the comparison advised against it."
    )
    comparison: Mapped[JsonObject] = mapped_column(
        JSONB, comment="The figures of this model beside those of its predecessor."
    )
