"""The tables of models: what there is, and what was put to use."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Owned


class NoiseModel(Owned, Base):
    """A classifier: its name, its version, the hash of its file, and how good it is."""

    __tablename__ = "noise_models"
    __table_args__ = (
        UniqueConstraint("sha256"),
        Index("ix_noise_models_created_at", "created_at"),
        Index("ix_noise_models_user_id", "user_id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[str]
    sha256: Mapped[str]
    #: Where the file lies in the blob store. Null only for a model that shipped with a release
    #: which did not yet keep it there.
    blob_key: Mapped[str | None]
    header: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: Whether it came with a release of the package: what is used until one is promoted.
    is_shipped: Mapped[bool] = mapped_column(server_default=text("false"))
    #: What training found out about it; null for models that were not trained here.
    card: Mapped[dict[str, Any] | None]
    #: The picture of the card's confusion matrix.
    confusion_key: Mapped[str | None]

    @property
    def clip_accuracy(self) -> float | None:
        """The share of clips, held out in cross-validation, that it tells rightly; None if
        nobody says."""
        told = self._trained.get("clip_accuracy", self._trained.get("accuracy"))
        return float(told) if isinstance(told, int | float) and 0 <= told <= 1 else None

    @property
    def data_sha256(self) -> str | None:
        """The hash of the clips that it was trained on; None if nobody says."""
        told = self._trained.get("data_sha256")
        return told if isinstance(told, str) else None

    @property
    def _trained(self) -> dict[str, Any]:
        """Its card; of a model that was not trained here what its file says of its training."""
        told = self.card or self.header.get("training")
        return told if isinstance(told, dict) else {}


class Promotion(Base):
    """A model was put to use. Rows are added and never changed; the newest one counts."""

    __tablename__ = "promotions"
    __table_args__ = (Index("ix_promotions_model_id", "model_id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    model_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("noise_models.id"))
    promoted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: Whether it was put to use although the comparison spoke against it.
    forced: Mapped[bool]
    #: The figures of this model beside those of the one before.
    comparison: Mapped[dict[str, Any]]
