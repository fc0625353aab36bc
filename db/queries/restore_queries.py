"""Queries that compare sessions with the recordings in the blob store, after a restore."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import and_, case, delete, func, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from db.blobs.keys import SESSIONS
from db.queries import batch_queries
from db.queue import session_moves
from db.tables.batches import AudioBatch
from db.tables.retention import OrphanBlob
from db.tables.sessions import UNFINISHED_STATES, AudioSession

_IS_UNFINISHED = AudioSession.state.in_(UNFINISHED_STATES)

#: The key of the audio that a session must have: of its recording while it is unfinished, or of the
#: upload that it will be copied from; then of what may be served. Null if it has none, such as a
#: recording that is still to be fetched, or was removed for privacy.
_NEEDED_KEY = case(
    (and_(_IS_UNFINISHED, AudioSession.size_bytes.is_(None)), AudioSession.source_key),
    (AudioSession.size_bytes.is_(None), None),
    (_IS_UNFINISHED, AudioSession.recording_key),
    else_=AudioSession.served_key,
)


class NeededAudio(NamedTuple):
    """A session and the key of the audio that it must have."""

    session_id: uuid.UUID
    state: str
    key: str | None
    size_bytes: int | None

    @property
    def is_unfinished(self) -> bool:
        """Whether the session fails without this audio."""
        return self.state in UNFINISHED_STATES


class FoundRecording(NamedTuple):
    """A recording in the blob store, and the session whose folder has it."""

    session_id: uuid.UUID
    key: str
    size_bytes: int


_NEEDED = select(AudioSession.id, AudioSession.state, _NEEDED_KEY, AudioSession.size_bytes)


def count_sessions(tx: Session) -> int:
    """Return the number of sessions."""
    return tx.execute(select(func.count()).select_from(AudioSession)).scalar_one()


def needed_keys(tx: Session, ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str | None]:
    """Return the key of the needed audio of those of some sessions that have a row."""
    rows = tx.execute(_NEEDED.where(AudioSession.id.in_(list(ids))))
    return {row[0]: row[2] for row in rows}


def page_of_needed(tx: Session, *, after: uuid.UUID, limit: int) -> Sequence[NeededAudio]:
    """Return sessions in the order of their IDs, those after an ID, with or without audio."""
    rows = tx.execute(_NEEDED.where(AudioSession.id > after).order_by(AudioSession.id).limit(limit))
    return [NeededAudio(*row) for row in rows]


def awaited_of_batches(tx: Session, *, most_items: int) -> set[uuid.UUID]:
    """Return the IDs of the sessions that open batches will create.

    ``most_items`` is the number of items of a batch that has not been listed yet.
    """
    rows = tx.execute(
        select(AudioBatch.id, AudioBatch.state, AudioBatch.next_item, AudioBatch.items_total).where(
            AudioBatch.state.in_(("listing", "expanding"))
        )
    )
    return {
        batch_queries.session_id_of(batch_id, index)
        for batch_id, state, next_item, items_total in rows
        for index in range(next_item, items_total if state == "expanding" else most_items)
    }


def adopt(
    tx: Session, recordings: Collection[FoundRecording], *, user_id: uuid.UUID, privacy: str
) -> int:
    """Add sessions for recordings, queued in the lane of their user; return how many are new.

    The name of the file is not known: it is the session's ID.
    """
    rows = [
        {
            "id": each.session_id,
            "state": "queued",
            "user_id": user_id,
            "file_name": str(each.session_id),
            "recording_key": each.key,
            "size_bytes": each.size_bytes,
            "privacy": privacy,
        }
        for each in recordings
    ]
    added = (
        postgresql.insert(AudioSession)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(*session_moves.QUEUED)
    )
    return len(session_moves.queue(tx, added.cte()))


def forget_marks(tx: Session, ids: Iterable[uuid.UUID]) -> None:
    """Remove the records, with their marks, of all orphaned blobs in the folders of some IDs."""
    folder = func.split_part(OrphanBlob.key, "/", 2)
    tx.execute(
        delete(OrphanBlob).where(
            OrphanBlob.key.startswith(SESSIONS), folder.in_([str(each) for each in ids])
        ),
        execution_options={"synchronize_session": False},
    )
