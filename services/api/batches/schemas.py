"""What the API answers of batches; see :mod:`services.api.sessions.schemas`."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from actors.facts import rounding
from db.blobs import MOST_KEY_BYTES
from db.settings import MOST_BATCH_ITEMS
from db.tables import batches as models
from db.tables.sessions import PRIORITIES, UNFINISHED_STATES
from services.api.sessions.progress import STAGES
from services.api.sessions.schemas import NoiseTypeSummary, Problem

#: What a file of a batch is at while something is still to be done for it.
AT_WORK = ("waiting", *UNFINISHED_STATES)


#: Where a recording lies in the blob store. A character has one byte or more.
Key = Annotated[str, msgspec.Meta(max_length=MOST_KEY_BYTES)]


class NamedRecordings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Recordings that lie in the inbox of the blob store; either ``keys`` or ``prefix``."""

    #: Each recording, ``inbox/...``.
    keys: Annotated[list[Key], msgspec.Meta(max_length=MOST_BATCH_ITEMS)] | None = None
    #: Instead: all that lies below this, ``inbox/`` or a folder in it.
    prefix: Key | None = None


class RecordingsForm(msgspec.Struct, kw_only=True):
    """A form that bears recordings; each becomes a session as soon as it has arrived."""

    #: The recordings.
    file: Annotated[list[bytes], msgspec.Meta(max_length=MOST_BATCH_ITEMS)]


class Batch(msgspec.Struct, kw_only=True):
    """Many recordings that came in one call.

    While they are taken it is ``receiving``, ``listing`` or ``expanding``, then ``processing``,
    and at the end ``finished``, ``failed`` (not all of them could be taken) or ``cancelled``.
    """

    id: uuid.UUID
    state: str
    percent: int
    priority: str
    created_at: datetime
    files_total: int
    #: How many of them are in each state: those of a session, and ``waiting``, ``refused``, or
    #: ``not_taken``.
    files: dict[str, int]
    #: Seconds of audio in those that are decoded, and what was heard in those that are finished.
    duration_s: float
    #: By noise type, the one with most events first.
    noise_types: dict[str, NoiseTypeSummary]
    problem: Problem | None

    @classmethod
    def of(
        cls,
        row: models.Batch,
        *,
        files: Mapping[str, int],
        duration_s: float,
        noise_types: Mapping[str, Mapping[str, Any]],
    ) -> Batch:
        """The batch of a row; ``files`` counts its items by state."""
        state = row.state
        if state not in models.OPEN_STATES:
            is_at_work = any(name in UNFINISHED_STATES for name in files)
            state = "processing" if is_at_work else {"taken": "finished"}.get(state, state)
        shares = {"waiting": 0} | {name: percent for name, (_, percent) in STAGES.items()}
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
            noise_types=msgspec.convert(noise_types, dict[str, NoiseTypeSummary]),
            problem=msgspec.convert(row.problem, Problem | None),
        )

    @property
    def finished(self) -> bool:
        """Whether the batch has come to its end, good or bad."""
        return self.state in ("finished", "failed", "cancelled")


class BatchItem(msgspec.Struct, kw_only=True):
    """What became of one recording of a batch."""

    index: int
    file_name: str
    #: The object that was named; null if the recording was sent.
    key: str | None
    session_id: uuid.UUID | None
    state: str
    duration_s: float | None
    events: int | None
    #: Why it was refused, or what was lost.
    reason: str | None

    @classmethod
    def of(cls, row: Any) -> BatchItem:
        """The item of a row of the list."""
        item = msgspec.convert(row._mapping, cls)
        if item.duration_s is not None:
            item.duration_s = rounding.seconds(item.duration_s)
        return item


class BatchItemPage(msgspec.Struct, kw_only=True):
    """A page of a batch's recordings in their order."""

    items: list[BatchItem]
    next_cursor: str | None
