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

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, comment="The batch's ID, given by the client or made for the request."
    )
    priority: Mapped[int] = mapped_column(
        SmallInteger,
        server_default=text(str(NORMAL)),
        comment="The priority of its sessions: 0 is high, 1 normal, 2 low.",
    )
    options: Mapped[StoredOptions] = mapped_column(
        JSONB, comment="The options of its sessions, besides the priority."
    )
    prefix: Mapped[str | None] = mapped_column(
        comment="The prefix of its objects; null if each was uploaded or named."
    )
    items_total: Mapped[int] = mapped_column(
        server_default=text("0"), comment="The number of its recordings so far."
    )
    next_item: Mapped[int] = mapped_column(
        server_default=text("0"), comment="The first item without an outcome."
    )
    created_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="When it was requested."
    )
    finished_at: Mapped[datetime | None] = mapped_column(
        comment="When the last item got its outcome, or the batch was cancelled."
    )
    problem: Mapped[StoredProblem | None] = mapped_column(
        JSONB, comment="Why further recordings were not taken; null if all were."
    )


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
        ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True, comment="The batch."
    )
    item_index: Mapped[int] = mapped_column(
        primary_key=True,
        autoincrement=False,
        comment="0, 1, 2, ... in the order in which the recordings were uploaded or named.",
    )
    file_name: Mapped[str] = mapped_column(
        comment="The client's name for the file: shown, never used as a path."
    )
    source_key: Mapped[str | None] = mapped_column(
        comment="The object that the recording is copied from; null if it was uploaded."
    )
    recorded_at: Mapped[datetime | None] = mapped_column(
        comment="When the recording began, as given by the caller."
    )
    outcome: Mapped[str | None] = mapped_column(
        comment="Whether a session was created; null until decided."
    )
    reason: Mapped[str | None] = mapped_column(
        comment="Why there is no session; null unless it was refused."
    )
    session_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("audio_sessions.id", ondelete="SET NULL"),
        comment="The session; null without one, or if it was removed.",
    )
