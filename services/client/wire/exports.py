"""Exports."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from services.client.wire.tasks import AsyncTask


class Selection(msgspec.Struct, kw_only=True):
    """Which detections an export has."""

    session_ids: list[uuid.UUID] = []
    batch_id: uuid.UUID | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    states: list[str] = []
    noise_types: list[str] = []
    min_confidence: float | None = None


class ExportTask(AsyncTask, kw_only=True):
    """An export: ``pending``, then ``completed`` or ``failed``."""

    format: str
    selection: Selection
    rows_written: int | None
    size_bytes: int | None
    expires_at: datetime
