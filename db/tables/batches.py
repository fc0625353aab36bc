"""The tables of batches: many recordings in one call, and the outcome of each."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TypedDict

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.tables.base import Base, Claimable, JsonObject, Owned, StoredProblem, Traced, one_of
from db.tables.sessions import NORMAL, PRIORITIES

#: The states of a batch while its sessions are created. ``receiving``: recordings are being
#: uploaded; ``listing``: the keys below a prefix are to be read; ``expanding``: sessions are being
#: created from named objects. The others are final; the sessions have their own states.
BATCH_STATES = ("receiving", "listing", "expanding", "taken", "failed", "cancelled")
OPEN_STATES = BATCH_STATES[:3]
ITEM_OUTCOMES = ("taken", "refused")


class StoredOptions(TypedDict, total=False):
    """The options of a batch's sessions: columns of `AudioSession`, with IDs as text."""

    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    noise_floor_db: float | None
    channel: str
    model_id: str | None
    webhook_id: str | None
    thresholds: dict[str, float]
    types: list[str]
    privacy: str
    time_zone: str | None
    user_metadata: JsonObject


class AudioBatch(Claimable, Owned, Traced, Base):
    """Recordings that were uploaded or named in one call."""

    __tablename__ = "batches"
    unfinished = OPEN_STATES
    __table_args__ = (
        CheckConstraint(one_of("state", BATCH_STATES), name="state"),
        CheckConstraint(one_of("priority", tuple(range(len(PRIORITIES)))), name="priority"),
        CheckConstraint("next_item BETWEEN 0 AND items_total", name="items"),
        Index("ix_batches_user_created", "user_id", "created_at", "id"),
        Index(
            "ix_batches_unfinished", "due_at", postgresql_where=text(one_of("state", OPEN_STATES))
        ),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text(str(NORMAL)))
    #: The options of its sessions, besides the priority.
    options: Mapped[StoredOptions] = mapped_column(JSONB)
    #: The prefix of its objects; null if each was uploaded or named.
    prefix: Mapped[str | None]
    items_total: Mapped[int] = mapped_column(server_default=text("0"))
    #: The first item without an outcome.
    next_item: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    #: When the last item got its outcome, or the batch was cancelled.
    finished_at: Mapped[datetime | None]
    #: Why further recordings were not taken; null if all were.
    problem: Mapped[StoredProblem | None] = mapped_column(JSONB)


class AudioBatchItem(Base):
    """One recording of a batch: its session, or the reason why there is none."""

    __tablename__ = "batch_items"
    __table_args__ = (
        CheckConstraint(one_of("outcome", ITEM_OUTCOMES), name="outcome"),
        CheckConstraint("(outcome = 'refused') = (reason IS NOT NULL)", name="reason"),
        # A session belongs to one item. The index also serves the foreign key.
        UniqueConstraint("session_id"),
    )

    batch_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True
    )
    #: 0, 1, 2, ... in the order in which they were uploaded or named.
    item_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    #: The client's name for the file: shown, never used as a path.
    file_name: Mapped[str]
    #: The object that the recording is copied from; null if it was uploaded.
    source_key: Mapped[str | None]
    #: When the recording began, as given by the caller.
    recorded_at: Mapped[datetime | None]
    #: Null until decided.
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="SET NULL")
    )
