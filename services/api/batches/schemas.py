"""Requests and answers of ``/v1/batches``; see :mod:`services.api.common.schemas`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from actors.facts import rounding
from db import typed
from db.blobs.keys import MOST_KEY_BYTES
from db.setting_parsers import MOST_BATCH_ITEMS
from db.tables import batches as models
from db.tables.documents.sessions import NoiseTypeSummary
from db.tables.sessions import PRIORITIES, STAGE_BEGINS, UNFINISHED_STATES
from services.api.common.parameters import ByTime, CreatedPage, Few, Time
from services.api.common.schemas import Problem
from services.api.sessions.list_schemas import SessionState
from services.http.cursors import PageQuery

BatchState = Literal[
    "receiving", "listing", "expanding", "processing", "finished", "failed", "cancelled"
]
ItemState = SessionState | Literal["waiting", "refused", "not_taken", "removed"]
#: The key of a recording in the blob store. The limit is in bytes; a character has one or more.
Key = Annotated[str, msgspec.Meta(max_length=MOST_KEY_BYTES)]


class NamedRecordings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Recordings in the inbox of the blob store, given by either ``keys`` or ``prefix``."""

    #: The key of each recording, ``inbox/...``.
    keys: Annotated[list[Key], msgspec.Meta(max_length=MOST_BATCH_ITEMS)] | None = None
    #: When each of ``keys`` began, in their order, with the offset from UTC; null to take it from
    #: the file.
    recorded_at: Annotated[list[Time | None], msgspec.Meta(max_length=MOST_BATCH_ITEMS)] | None = (
        None
    )
    #: All recordings below this prefix: ``inbox/`` or a folder in it.
    prefix: Key | None = None


class RecordingsForm(msgspec.Struct, kw_only=True):
    """A form with recordings; each becomes a session as soon as it is received."""

    #: The recordings.
    file: Annotated[list[bytes], msgspec.Meta(max_length=MOST_BATCH_ITEMS)]


class Batch(msgspec.Struct, kw_only=True):
    """A set of recordings submitted in one call.

    Its state is ``receiving``, ``listing`` or ``expanding`` while recordings are being accepted,
    then ``processing``, and finally ``finished``, ``failed`` (not all recordings were accepted) or
    ``cancelled``.
    """

    id: uuid.UUID
    state: str
    percent: int
    priority: str
    created_at: datetime
    files_total: int
    #: Number of files by state: the states of a session, and ``waiting``, ``refused`` and
    #: ``not_taken``.
    files: dict[str, int]
    #: Seconds of audio in the files decoded so far.
    duration_s: float
    #: Detections in the finished files, by noise type, most detections first.
    noise_types: dict[str, NoiseTypeSummary]
    problem: Problem | None

    @classmethod
    def of(
        cls,
        row: models.AudioBatch,
        *,
        files: Mapping[str, int],
        duration_s: float,
        noise_types: dict[str, NoiseTypeSummary],
    ) -> Batch:
        """Convert a row to a batch; ``files`` counts its items by state."""
        state = row.state
        if state not in models.OPEN_STATES:
            is_at_work = any(name in UNFINISHED_STATES for name in files)
            state = "processing" if is_at_work else {"taken": "finished"}.get(state, state)
        shares = {"waiting": 0, **STAGE_BEGINS}
        done = sum(n * shares.get(name, 100) for name, n in files.items())
        return cls(
            id=row.id,
            state=state,
            percent=done // row.items_total if row.items_total else 0,
            priority=PRIORITIES[row.priority],
            created_at=row.created_at,
            files_total=row.items_total,
            files=dict(files),
            duration_s=rounding.seconds(duration_s),
            noise_types=noise_types,
            problem=typed.convert(row.problem, Problem | None),
        )


class BatchItem(msgspec.Struct, kw_only=True):
    """One recording of a batch and its result."""

    index: int
    file_name: str
    #: The object in the inbox; null if the recording was uploaded.
    key: str | None
    session_id: uuid.UUID | None
    state: str
    #: When the recording began, as given by the caller, else as its file states it.
    recorded_at: datetime | None
    duration_s: float | None
    events: int | None
    #: Why the recording was refused, or what is missing from its result.
    reason: str | None

    @classmethod
    def of(cls, row: Any) -> BatchItem:
        """Convert a row of the list to an item."""
        item = typed.convert(row._mapping, cls)
        if item.duration_s is not None:
            item.duration_s = rounding.seconds(item.duration_s)
        return item


class BatchItemPage(msgspec.Struct, kw_only=True):
    """A page of a batch's recordings, in the order of their upload."""

    items: list[BatchItem]
    next_cursor: str | None


class BatchQuery(CreatedPage, kw_only=True):
    """Filters and order of the list of batches."""

    #: Only this state; repeat the parameter for several.
    state: Annotated[tuple[BatchState, ...], Few] = ()
    #: The field to sort by; ``-`` sorts descending.
    sort: ByTime = "-created_at"


class ListedBatch(msgspec.Struct, kw_only=True):
    """A batch without the counts of its files; ``GET /v1/batches/{batch_id}`` returns those too."""

    id: uuid.UUID
    state: str
    priority: str
    created_at: datetime
    files_total: int
    problem: Problem | None

    @classmethod
    def of(cls, row: Any) -> ListedBatch:
        """Convert a row to a batch."""
        return cls(
            id=row.id,
            state=row.state,
            priority=PRIORITIES[row.priority],
            created_at=row.created_at,
            files_total=row.items_total,
            problem=typed.convert(row.problem, Problem | None),
        )


class BatchPage(msgspec.Struct, kw_only=True):
    """A page of batches."""

    items: list[ListedBatch]
    next_cursor: str | None


class BatchItemQuery(PageQuery, kw_only=True):
    """Filters of the list of a batch's recordings."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    #: Only this state; repeat the parameter for several.
    state: Annotated[tuple[ItemState, ...], Few] = ()
