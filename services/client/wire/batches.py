"""Batches and their recordings."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from services.client.wire.sessions import UNFINISHED_STATES, NoiseTypeSummary
from services.client.wire.tasks import Problem

#: States of a recording of a batch that is not finished.
UNFINISHED_ITEM_STATES = ("waiting", *UNFINISHED_STATES)


class Batch(msgspec.Struct, kw_only=True):
    """A set of recordings submitted in one call."""

    id: uuid.UUID
    state: str
    percent: int
    priority: str
    created_at: datetime
    files_total: int
    files: dict[str, int]
    duration_s: float
    noise_types: dict[str, NoiseTypeSummary]
    problem: Problem | None

    @property
    def finished(self) -> bool:
        """Whether the batch has ended, successfully or not."""
        return self.state in ("finished", "failed", "cancelled")


class BatchItem(msgspec.Struct, kw_only=True):
    """One recording of a batch and its result."""

    index: int
    file_name: str
    key: str | None
    session_id: uuid.UUID | None
    state: str
    recorded_at: datetime | None
    duration_s: float | None
    events: int | None
    reason: str | None


class BatchItemPage(msgspec.Struct, kw_only=True):
    """A page of a batch's recordings."""

    items: list[BatchItem]
    next_cursor: str | None
