"""Requests and answers of ``/v1/exports``."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from db import typed
from db.tables.exports import Export, StoredSelection
from services.api.common.parameters import ByTime, Confidence, CreatedPage, Few, JobState, Time
from services.api.common.schemas import AsyncTask, task_of

Format = Literal["csv", "ndjson", "parquet", "audacity", "raven", "dcase", "rttm", "clips"]
EndState = Literal["completed", "partial", "failed", "cancelled"]


NoiseType = Annotated[str, msgspec.Meta(max_length=200)]


class Selection(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which of the caller's detections to export. A filter that is left out matches all."""

    #: Only detections of these sessions, which must have finished.
    session_ids: Annotated[tuple[uuid.UUID, ...], msgspec.Meta(max_length=1_000)] = ()
    #: Only sessions of this batch.
    batch_id: uuid.UUID | None = None
    #: Only sessions created at this time or later.
    created_from: Time | None = None
    #: Only sessions created before this time.
    created_to: Time | None = None
    #: Only sessions that finished in one of these states. Default: ``completed`` and ``partial``.
    states: Annotated[tuple[EndState, ...], Few] = ()
    #: Only these noise types or groups, with all types below them.
    noise_types: Annotated[tuple[NoiseType, ...], Few] = ()
    #: Only detections with at least this confidence.
    min_confidence: Confidence | None = None


class NewExport(Selection, kw_only=True):
    """A request for an export."""

    #: The file format; docs/exports.md describes each.
    format: Format


def stored(asked: Selection) -> StoredSelection:
    """Return a selection as stored in the row of an export: only the filters that are set."""
    found: StoredSelection = msgspec.to_builtins(
        {
            name: value
            for name in Selection.__struct_fields__
            if (value := getattr(asked, name)) not in ((), None)
        }
    )
    return found


class ExportQuery(CreatedPage, kw_only=True):
    """Filters and order of the list of exports."""

    #: Only this state; repeat the parameter for several.
    state: Annotated[tuple[JobState, ...], Few] = ()
    #: The field to sort by; ``-`` sorts descending.
    sort: ByTime = "-created_at"


class ExportTask(AsyncTask, kw_only=True):
    """An export: ``pending``, then ``completed`` or ``failed``."""

    format: str
    selection: Selection
    #: Number of detections in the file; null until it is written.
    rows_written: int | None
    #: Size of the file; null until it is written.
    size_bytes: int | None
    #: When the file expires.
    expires_at: datetime

    @classmethod
    def of(cls, row: Export) -> ExportTask:
        """Convert a row to an export."""
        own = ("format", "rows_written", "size_bytes", "expires_at")
        return cls(
            **task_of(row),
            **{name: getattr(row, name) for name in own},
            selection=typed.convert(row.selection, Selection),
        )


class ExportPage(msgspec.Struct, kw_only=True):
    """A page of exports."""

    items: list[ExportTask]
    next_cursor: str | None
