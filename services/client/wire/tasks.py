"""Asynchronous tasks and their problems."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec


class Missing(msgspec.Struct, kw_only=True):
    """An interval that is missing from a result, and the reason."""

    start_s: float
    end_s: float
    reason: str


class Problem(msgspec.Struct, kw_only=True):
    """The reason for a failure or for missing results."""

    code: str
    detail: str
    missing: list[Missing] = []


class AsyncTask(msgspec.Struct, kw_only=True):
    """An asynchronous task: the fields that trainings, exports, reports and so on share."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    problem: Problem | None

    @property
    def finished(self) -> bool:
        """Whether the task has ended, successfully or not."""
        return self.state != "pending"
