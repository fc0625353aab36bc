"""What exports are asked for with, and what is told of them."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from db.tables.exports import Export
from services.api.sessions import schemas
from services.api.sessions.list_schemas import ByTime, Confidence, CreatedPage, Few, JobState, Time

Format = Literal["csv", "ndjson", "parquet", "audacity", "raven", "dcase", "rttm", "clips"]
EndState = Literal["completed", "partial", "failed", "cancelled"]


NoiseType = Annotated[str, msgspec.Meta(max_length=200)]


class Selection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of which sessions which events; what is not said lets all of the caller's through."""

    #: Only of these sessions, each of which has ended.
    session_ids: Annotated[tuple[uuid.UUID, ...], msgspec.Meta(max_length=1_000)] = ()
    #: Only of those that came with this batch.
    batch_id: uuid.UUID | None = None
    #: Only of those that were sent at this time or later.
    created_from: Time | None = None
    #: Only of those that were sent before this time.
    created_to: Time | None = None
    #: Only of those that ended so; of those that were heard, whole or in part, if nothing is said.
    states: Annotated[tuple[EndState, ...], Few] = ()
    #: Only events of these noise types or groups, and of all types below them.
    noise_types: Annotated[tuple[NoiseType, ...], Few] = ()
    #: Only events that are at least as sure.
    min_confidence: Confidence | None = None


class NewExport(Selection, kw_only=True):
    """An export to be made."""

    #: What is written: docs/exports.md tells of each.
    format: Format


def stored(asked: Selection) -> dict[str, Any]:
    """A selection as the row of an export keeps it: what narrows it."""
    return {
        name: msgspec.to_builtins(value)
        for name in Selection.__struct_fields__
        if (value := getattr(asked, name)) not in ((), None)
    }


class ExportQuery(CreatedPage, kw_only=True):
    """Which exports are listed, and in which order."""

    #: Only in this state; several times for any of several.
    state: Annotated[tuple[JobState, ...], Few] = ()
    #: By which field; with ``-`` the latest first.
    sort: ByTime = "-created_at"


class ExportTask(schemas.Task, kw_only=True):
    """An export: ``pending``, then ``completed`` or ``failed``."""

    format: str
    selection: Selection
    #: How many events are in the file, and its bytes; null until it is there.
    rows_written: int | None
    size_bytes: int | None
    #: Until when the file can be fetched.
    expires_at: datetime

    @classmethod
    def of(cls, row: Export) -> ExportTask:
        """The export of a row."""
        own = ("format", "rows_written", "size_bytes", "expires_at")
        return cls(
            **schemas.task_of(row),
            **{name: getattr(row, name) for name in own},
            selection=msgspec.convert(row.selection, Selection),
        )


class ExportPage(msgspec.Struct, kw_only=True):
    """A page of exports."""

    items: list[ExportTask]
    next_cursor: str | None
