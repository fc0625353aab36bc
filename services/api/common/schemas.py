"""Parts of answers. Field names contain units; null means "not known yet" or "none"."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from db import typed
from db.tables.base import JobRow
from db.tables.sessions import WAITING_FOR_STORAGE

SomeHeard = TypeVar("SomeHeard")


class Problem(msgspec.Struct, kw_only=True):
    """The reason for a failure or for missing results."""

    code: str
    detail: str
    #: Intervals that are missing from the result: ``start_s``, ``end_s``, ``reason``.
    missing: list[dict[str, Any]] = []


class AsyncTask(msgspec.Struct, kw_only=True):
    """An asynchronous task."""

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


def task_of(row: JobRow) -> dict[str, Any]:
    """Return the fields that all tasks share, from a row."""
    read = ("problem", "stage")
    values = {name: getattr(row, name) for name in AsyncTask.__struct_fields__ if name not in read}
    return values | {
        "problem": typed.convert(row.problem, Problem | None),
        "stage": WAITING_FOR_STORAGE if row.waits_for_storage else row.stage,
    }


def most_events_first(
    noise_types: Mapping[str, SomeHeard], *, events: Callable[[SomeHeard], int]
) -> dict[str, SomeHeard]:
    """Sort noise types for an answer: by descending number of events, then by name.

    The database does not keep the order of JSON fields.
    """
    return dict(sorted(noise_types.items(), key=lambda each: (-events(each[1]), each[0])))
