"""Queries for batches: filling them, their progress, and their end."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import Select, and_, case, func, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from db import typed
from db.queries import session_queries
from db.queries.session_queries import OptionColumns
from db.queue import claims, session_moves
from db.queue.claims import Claim
from db.tables.base import StoredProblem
from db.tables.batches import OPEN_STATES, AudioBatch, AudioBatchItem, StoredOptions
from db.tables.documents.sessions import NoiseTypeSummary
from db.tables.session_results import SessionResult
from db.tables.sessions import AudioSession
from db.tables.unfinished import UnfinishedSession

#: Items per message. More means larger transactions, and more copies to repeat if a worker dies.
PAGE_ITEMS = 50
#: Items inserted by one statement.
INSERT_ITEMS = 500


@dataclass(frozen=True, kw_only=True)
class BatchWork(claims.WorkItem):
    """A batch at one of its items, from which the next sessions are created.

    The item is part of the address because the count of attempts restarts with each page: otherwise
    a worker that was considered dead could write results for items already done.
    """

    id: uuid.UUID
    state: str
    next_item: int = 0

    @property
    def table(self) -> type[AudioBatch]:
        return AudioBatch

    @property
    def names(self) -> dict[str, uuid.UUID]:
        return {"job_id": self.id}

    @property
    def origin(self) -> tuple[type[AudioBatch], uuid.UUID]:
        return AudioBatch, self.id

    def waits(self) -> ColumnElement[bool]:
        return and_(
            AudioBatch.id == self.id,
            AudioBatch.state == self.state,
            AudioBatch.next_item == self.next_item,
        )


def session_id_of(batch_id: uuid.UUID, item_index: int) -> uuid.UUID:
    """Return the session ID of an item: always the same, so that repetition has no effect."""
    return uuid.uuid5(batch_id, str(item_index))


# --- filling -----------------------------------------------------------------------------------


class RequestedBatch(TypedDict):
    """The columns of a batch that its request sets."""

    id: uuid.UUID
    options: StoredOptions
    user_id: NotRequired[uuid.UUID | None]
    traceparent: NotRequired[str | None]
    priority: NotRequired[int]


class NewBatchRow(RequestedBatch):
    """The columns of a new batch."""

    state: str
    items_total: NotRequired[int]
    prefix: NotRequired[str]
    due_at: NotRequired[ColumnElement[datetime]]
    finished_at: NotRequired[datetime]


class BatchDone(TypedDict, total=False):
    """What a step of a batch writes to its row."""

    items_total: int
    next_item: int
    problem: StoredProblem | None


def add_batch(tx: Session, **values: Unpack[NewBatchRow]) -> AudioBatch | None:
    """Add a batch; return None if its ID exists."""
    return tx.execute(
        postgresql.insert(AudioBatch)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(AudioBatch)
    ).scalar_one_or_none()


def add_keys(
    tx: Session, batch_id: uuid.UUID, named: Iterable[tuple[str, datetime | None]]
) -> None:
    """Add objects, each a key and a time of recording if the caller gave it, as items of a batch.

    The file name is the last segment of the key. Inserted in pages, as ten thousand rows of long
    keys would take tens of megabytes.
    """
    rows = (
        {
            "batch_id": batch_id,
            "item_index": index,
            "file_name": key.rpartition("/")[2],
            "source_key": key,
            "recorded_at": recorded_at,
        }
        for index, (key, recorded_at) in enumerate(named)
    )
    while page := list(itertools.islice(rows, INSERT_ITEMS)):
        tx.execute(insert(AudioBatchItem), page)


def take_batch(batch_id: uuid.UUID, tx: Session, *, lease_s: float) -> Claim[BatchWork] | None:
    """Claim a batch at its next item."""
    batch = tx.get(AudioBatch, batch_id)
    if batch is None or batch.state not in OPEN_STATES:
        return None
    return claims.this(work_on(batch), tx, lease_s=lease_s)


def work_on(batch: AudioBatch) -> BatchWork:
    """Return the work item of a batch in its current state."""
    return BatchWork(id=batch.id, state=batch.state, next_item=batch.next_item)


def take_item(
    tx: Session,
    batch: AudioBatch,
    item_index: int,
    *,
    file_name: str,
    size_bytes: int,
    key: str,
    recorded_at: datetime | None = None,
    reserved_s: float = 0.0,
) -> uuid.UUID:
    """Create the session of an item, and record it. Fails if it exists already."""
    session_id = session_id_of(batch.id, item_index)
    session_queries.add_session(
        tx,
        id=session_id,
        batch_id=batch.id,
        user_id=batch.user_id,
        traceparent=batch.traceparent,
        priority=batch.priority,
        file_name=file_name,
        size_bytes=size_bytes,
        recording_key=key,
        recorded_at=recorded_at,
        reserved_s=reserved_s,
        **typed.convert(batch.options, OptionColumns),
    )
    _note(tx, batch.id, item_index, file_name, outcome="taken", session_id=session_id)
    return session_id


def refuse_item(
    tx: Session, batch: AudioBatch, item_index: int, *, file_name: str, reason: str
) -> None:
    """Record why an item has no session."""
    _note(tx, batch.id, item_index, file_name, outcome="refused", reason=reason)


def refuse_items(
    tx: Session, batch: AudioBatch, first_index: int, refused: Sequence[tuple[str, str]]
) -> None:
    """Record uploaded items without sessions, as ``(file_name, reason)``, in their order."""
    rows = [
        {
            "batch_id": batch.id,
            "item_index": index,
            "file_name": name,
            "outcome": "refused",
            "reason": reason,
        }
        for index, (name, reason) in enumerate(refused, first_index)
    ]
    if rows:
        tx.execute(insert(AudioBatchItem), rows)


class _ItemDone(TypedDict):
    outcome: str
    reason: NotRequired[str]
    session_id: NotRequired[uuid.UUID]


def _note(
    tx: Session, batch_id: uuid.UUID, index: int, file_name: str, **found: Unpack[_ItemDone]
) -> None:
    """Write the outcome of an item. A named item has a row already, an uploaded one does not."""
    tx.execute(
        postgresql.insert(AudioBatchItem)
        .values(batch_id=batch_id, item_index=index, file_name=file_name, **found)
        .on_conflict_do_update(index_elements=["batch_id", "item_index"], set_=found)
    )


# --- cancelling --------------------------------------------------------------------------------


def lock_batch(
    tx: Session, batch_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AudioBatch | None:
    """Return a batch, locked so that no other transaction creates sessions of its items."""
    return tx.scalars(_batch(batch_id, owner).with_for_update(key_share=True)).one_or_none()


def cancel_batch(tx: Session, batch: AudioBatch) -> bool:
    """Cancel a locked batch and all of its unfinished sessions; False if nothing was unfinished."""
    ended = session_moves.move(tx, UnfinishedSession.batch_id == batch.id, to="cancelled")
    if not ended and batch.state not in OPEN_STATES:
        return False
    tx.execute(
        update(AudioBatch)
        .where(AudioBatch.id == batch.id)
        .values(state="cancelled", finished_at=func.clock_timestamp()),
        execution_options={"synchronize_session": False},
    )
    return True


# --- reading -----------------------------------------------------------------------------------


def get_batch(
    tx: Session, batch_id: uuid.UUID, *, owner: uuid.UUID | None = None
) -> AudioBatch | None:
    """Return a batch, or None; with an owner only if it is theirs."""
    return tx.scalars(_batch(batch_id, owner)).one_or_none()


def _batch(batch_id: uuid.UUID, owner: uuid.UUID | None) -> Select[AudioBatch]:
    return select(AudioBatch).where(
        AudioBatch.id == batch_id, session_queries.is_of(AudioBatch, owner)
    )


def next_items(tx: Session, batch_id: uuid.UUID) -> Sequence[AudioBatchItem]:
    """Return the next page of a batch: the first items without an outcome."""
    return tx.scalars(
        select(AudioBatchItem)
        .join(AudioBatch)
        .where(AudioBatch.id == batch_id, AudioBatchItem.item_index >= AudioBatch.next_item)
        .order_by(AudioBatchItem.item_index)
        .limit(PAGE_ITEMS)
    ).all()


def item_state() -> ColumnElement[str]:
    """Return the state of an item: that of its session, or why it has none."""
    return case(
        (AudioBatchItem.outcome == "refused", "refused"),
        (AudioSession.state.is_not(None), AudioSession.state),
        (AudioBatchItem.outcome == "taken", "removed"),
        (AudioBatch.state.in_(OPEN_STATES), "waiting"),
        else_="not_taken",
    )


def count_items(tx: Session, batch_id: uuid.UUID) -> tuple[dict[str, int], float]:
    """Return the number of items in each state, and their total seconds of audio so far."""
    state = item_state().label("state")
    rows = tx.execute(
        select(state, func.count(), func.coalesce(func.sum(SessionResult.duration_s), 0.0))
        .select_from(AudioBatchItem)
        .join(AudioBatch)
        .outerjoin(AudioSession, AudioSession.id == AudioBatchItem.session_id)
        .outerjoin(SessionResult, SessionResult.session_id == AudioSession.id)
        .where(AudioBatchItem.batch_id == batch_id)
        .group_by(text("1"))
    ).all()
    counts = {name: count for name, count, _ in rows}
    return counts, sum(seconds or 0.0 for _, _, seconds in rows)


def noise_types_of(tx: Session, batch_id: uuid.UUID) -> dict[str, NoiseTypeSummary]:
    """Return the noise types of a batch's finished sessions, summed up, most detections first."""
    rows = tx.execute(_NOISE_TYPES, {"batch_id": batch_id})
    return {
        row.noise_type: NoiseTypeSummary(
            events=row.events, total_s=row.total_s, max_confidence=row.max_confidence
        )
        for row in rows
    }


_NOISE_TYPES = text("""
    SELECT each.key AS noise_type,
           sum((each.value ->> 'events')::int)::int AS events,
           round(sum((each.value ->> 'total_s')::numeric), 3)::float AS total_s,
           max((each.value ->> 'max_confidence')::float) AS max_confidence
    FROM audio_sessions
    CROSS JOIN LATERAL jsonb_each(summary -> 'noise_types') AS each
    WHERE batch_id = :batch_id
    GROUP BY each.key
    ORDER BY events DESC, noise_type
""")


def items_of(
    batch_id: uuid.UUID,
) -> Select[int, str, str | None, uuid.UUID | None, str, datetime | None, float | None, int, str]:
    """Return the query for a batch's items and their outcomes."""
    return (
        select(
            AudioBatchItem.item_index.label("index"),
            AudioBatchItem.file_name,
            AudioBatchItem.source_key.label("key"),
            AudioBatchItem.session_id,
            item_state().label("state"),
            func.coalesce(AudioSession.recorded_at, AudioBatchItem.recorded_at).label(
                "recorded_at"
            ),
            SessionResult.duration_s,
            AudioSession.summary["events"].as_integer().label("events"),
            func.coalesce(AudioBatchItem.reason, AudioSession.problem["detail"].as_string()).label(
                "reason"
            ),
        )
        .select_from(AudioBatchItem)
        .join(AudioBatch)
        .outerjoin(AudioSession, AudioSession.id == AudioBatchItem.session_id)
        .outerjoin(SessionResult, SessionResult.session_id == AudioSession.id)
        .where(AudioBatchItem.batch_id == batch_id)
    )
