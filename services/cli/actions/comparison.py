"""Compare the sessions in the database with the recordings in the blob store."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from db.blobs import keys
from db.blobs.blob_store import Blobs, ListedBlob
from db.blobs.errors import BlobMissing
from db.queries import restore_queries
from db.queries.restore_queries import FoundRecording, NeededAudio
from db.settings import Settings
from db.store import Store

#: Sessions read per transaction.
PAGE_ROWS = 1_000

#: Called with what is going on, and the number of files or sessions so far.
OnProgress = Callable[[str, int], None]


@dataclass(kw_only=True)
class Differences:
    """The result of a comparison.

    It is consistent while the installation works: what differs is checked again at the end.
    """

    n_sessions: int = 0
    #: Sessions whose audio is not in the store.
    missing: list[NeededAudio] = field(default_factory=list)
    #: Recordings without a row.
    unknown: list[FoundRecording] = field(default_factory=list)
    #: The same, but so young that their rows may be about to follow.
    young: list[FoundRecording] = field(default_factory=list)
    #: How many recordings without a row an open batch will make sessions of.
    n_awaited: int = 0


def compare(
    store: Store, blobs: Blobs, settings: Settings, *, on_progress: OnProgress
) -> Differences:
    """List the blob store once, and read all sessions.

    One ID per session stays in memory, and the best recording of each folder without a row.
    """
    present, candidates = _listed(store, blobs, on_progress)
    found = Differences()
    with store.reading() as tx:
        awaited = restore_queries.awaited_of_batches(tx, most_items=settings.max_batch_items)
    youngest = datetime.now(UTC) - timedelta(seconds=settings.orphan_s)
    for session_id, blob in _still_unknown(store, candidates):
        recording = FoundRecording(session_id, blob.key, blob.size_bytes)
        if session_id in awaited:
            found.n_awaited += 1
        else:
            (found.unknown if blob.modified_at < youngest else found.young).append(recording)
    for row in _sessions(store):
        found.n_sessions += 1
        if found.n_sessions % PAGE_ROWS == 0:
            on_progress("sessions read", found.n_sessions)
        if row.key is not None and row.session_id.bytes not in present and _is_missing(blobs, row):
            found.missing.append(row)
    return found


def _listed(
    store: Store, blobs: Blobs, on_progress: OnProgress
) -> tuple[set[bytes], dict[uuid.UUID, ListedBlob]]:
    """Return the IDs of sessions whose audio is there, and the recordings in other folders."""
    present: set[bytes] = set()
    candidates: dict[uuid.UUID, ListedBlob] = {}
    n_files = 0
    for page in blobs.pages(keys.SESSIONS):
        folders = _folders(page)
        with store.reading() as tx:
            needed = restore_queries.needed_keys(tx, folders)
        for session_id, files in folders.items():
            if session_id not in needed:
                also = [candidates[session_id]] if session_id in candidates else []
                best = _best(files + also)
                if best is not None:
                    candidates[session_id] = best
            elif any(blob.key == needed[session_id] for blob in files):
                present.add(session_id.bytes)
        n_files += len(page)
        on_progress("files listed", n_files)
    return present, candidates


def _folders(page: Iterable[ListedBlob]) -> dict[uuid.UUID, list[ListedBlob]]:
    """Return the files of each session's folder; others were not created by Clamor."""
    folders: defaultdict[uuid.UUID, list[ListedBlob]] = defaultdict(list)
    for blob in page:
        if (session_id := keys.folder_id(blob.key)) is not None:
            folders[session_id].append(blob)
    return folders


def _best(files: Collection[ListedBlob]) -> ListedBlob | None:
    """Return the recording in a folder; None if it has only products.

    A muted copy comes first: its session had ended, and its recording was to be removed.
    """
    recordings = [
        blob for blob in files if keys.is_recording(blob.key) or keys.is_muted_copy(blob.key)
    ]
    return max(
        recordings,
        key=lambda blob: (keys.is_muted_copy(blob.key), blob.modified_at, blob.key),
        default=None,
    )


def _still_unknown(
    store: Store, candidates: dict[uuid.UUID, ListedBlob]
) -> Iterator[tuple[uuid.UUID, ListedBlob]]:
    """Yield the recordings that still have no row, the oldest first."""
    ordered = sorted(candidates.items(), key=lambda each: (each[1].modified_at, each[0]))
    for start in range(0, len(ordered), PAGE_ROWS):
        page = ordered[start : start + PAGE_ROWS]
        with store.reading() as tx:
            known = restore_queries.needed_keys(tx, (session_id for session_id, _ in page))
        yield from (each for each in page if each[0] not in known)


def _sessions(store: Store) -> Iterator[NeededAudio]:
    after = uuid.UUID(int=0)
    while True:
        with store.reading() as tx:
            page: Sequence[NeededAudio] = restore_queries.page_of_needed(
                tx, after=after, limit=PAGE_ROWS
            )
        yield from page
        if len(page) < PAGE_ROWS:
            return
        after = page[-1].session_id


def _is_missing(blobs: Blobs, row: NeededAudio) -> bool:
    """Whether the audio that the listing did not show is missing, and no copy of it is there."""
    assert row.key is not None
    with suppress(BlobMissing):
        blobs.size(row.key)
        return False
    if row.size_bytes is not None:
        return True
    return not any(map(keys.is_recording, blobs.keys(keys.session_prefix(row.session_id))))
