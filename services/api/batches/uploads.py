"""Receives many recordings in one form: each becomes a session as soon as it is stored.

An invalid file therefore does not stop the others, and a broken connection loses no file that was
received before: the batch is closed with those.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

import falcon
import msgspec
from falcon.media.multipart import BodyPart
from sqlalchemy.orm import Session

from actors.facts.display_names import display_name
from actors.messaging.messages import ProcessAudioFile
from db.blobs.errors import BlobError
from db.blobs.keys import recording_key
from db.queries import batch_queries
from db.queries.batch_queries import BatchWork, RequestedBatch
from db.queue import claims
from db.store import Store
from db.tables.batches import AudioBatch
from services.api.batches.errors import BatchClosed, BatchExists, TooManyFiles
from services.api.common import files
from services.api.common.errors import EmptyUpload, UnknownFormat, UploadTooLarge
from services.api.common.schemas import Problem
from services.api.sessions import uploads
from services.api.sessions.uploads import FIELD
from services.http.access import Principal
from services.http.bodies import is_form, parts_of
from services.http.caller_errors import QuotaExceeded, StorageQuotaExceeded, TooManyUnfinished
from services.http.deps import Deps
from services.http.request_errors import UnsupportedUpload

#: A batch in upload without progress for this long is closed: its server has died. No single
#: recording may take longer to upload.
SILENT_S = 3_600.0
#: Refusals are collected for this long and written together. A longer time saves little: files
#: that arrive slowly take longer than a transaction anyway.
REFUSED_WAIT_S = 1.0
#: Reasons to refuse one file of a form.
REFUSALS = (EmptyUpload, StorageQuotaExceeded, TooManyUnfinished, UnknownFormat, UploadTooLarge)


def receive(req: falcon.Request, deps: Deps, values: RequestedBatch, *, caller: Principal) -> None:
    """Create a batch from a form, and a session for each of its files.

    Raises
    ------
    EmptyUpload, UnsupportedUpload, BatchExists
        No batch is created then.
    BatchClosed, TooManyFiles, InvalidParameter
        And what Falcon raises for a truncated form. The batch keeps the files before that.
    """
    max_items = deps.settings.max_batch_items
    parts = _Files(req, most_files=max_items)
    if parts.current is None:
        raise EmptyUpload(f"the form has no field '{FIELD}'; send each recording in one")
    with deps.store.transaction() as tx:
        batch = batch_queries.add_batch(
            tx, state="receiving", due_at=claims.seconds_from_now(SILENT_S), **values
        )
    if batch is None:
        raise BatchExists(f"another batch has the ID {values['id']}")
    items = _Items(deps.store, batch)
    problem: str | None = "the form ended early; the recordings that had arrived were accepted"
    try:
        while parts.current is not None:
            if items.n_items == max_items:
                problem = f"a batch may have at most {max_items} recordings"
                raise TooManyFiles(f"{problem}; the first ones were accepted")
            _receive_one(deps, items, parts, caller=caller)
        problem = None
    finally:
        items.close(problem)


def _receive_one(deps: Deps, items: _Items, parts: _Files, *, caller: Principal) -> None:
    """Store one file and create its session, or record why it is refused."""
    part = parts.current
    assert part is not None
    key = recording_key(items.next_session_id())
    try:
        # Only what follows a part shows that it is complete.
        deps.quota.check_stock(caller.user_id)
        upload = uploads.receive_part(
            part,
            blobs=deps.blobs,
            key=key,
            max_bytes=deps.settings.max_upload_bytes,
            check_end=lambda _n_bytes: parts.advance(),
        )
    except (*REFUSALS, BlobError) as error:
        # The message of the store is not for callers.
        is_store = isinstance(error, BlobError)
        reason = "the recording could not be stored" if is_store else str(error)
        name = display_name(part.filename or "")
        if parts.current is part:
            parts.advance()
        items.refuse(name, reason)
        return
    try:
        with files.row_of(key, store=deps.store, blobs=deps.blobs) as tx:
            deps.quota.reserve(tx, caller, size_bytes=upload.size_bytes)
            session_id = items.take(tx, upload, key=key)
    except (QuotaExceeded, StorageQuotaExceeded, TooManyUnfinished) as error:
        items.refuse(upload.file_name, str(error))
        return
    items.settle()
    deps.publisher.send(ProcessAudioFile(session_id=session_id))


class _Items:
    """The results of the files of a form, in the order of their upload.

    A session is written immediately. Refusals are written in groups because each transaction waits
    for the disk: a form of 10,000 empty files would otherwise block its thread for minutes.
    """

    def __init__(self, store: Store, batch: AudioBatch) -> None:
        self._store = store
        self._batch = batch
        #: Number of committed items.
        self._n_written = 0
        #: Names and reasons of the refusals after those, and the time of the first.
        self._refused: list[tuple[str, str]] = []
        self._refused_since_s = 0.0
        #: Number of items after the commit of the current transaction.
        self._n_uncommitted = 0

    @property
    def n_items(self) -> int:
        """The number of files so far."""
        return self._n_written + len(self._refused)

    def next_session_id(self) -> uuid.UUID:
        """Return the ID of the next file's session."""
        return batch_queries.session_id_of(self._batch.id, self.n_items)

    def take(self, tx: Session, upload: uploads.Upload, *, key: str) -> uuid.UUID:
        """Write the session of a file and all refusals before it; call `settle` after the commit.

        Raises
        ------
        BatchClosed
            If the batch was cancelled or closed in the meantime.
        """
        index = self.n_items
        self._write(tx, n_items=index + 1)
        return batch_queries.take_item(
            tx,
            self._batch,
            index,
            file_name=upload.file_name,
            size_bytes=upload.size_bytes,
            key=key,
            reserved_s=upload.cost_s,
        )

    def refuse(self, file_name: str, reason: str) -> None:
        """Record why a file is refused; raises :class:`BatchClosed` as `take` does."""
        now_s = time.monotonic()
        if not self._refused:
            self._refused_since_s = now_s
        self._refused.append((file_name, reason))
        is_old = now_s - self._refused_since_s > REFUSED_WAIT_S
        if is_old or len(self._refused) >= batch_queries.PAGE_ITEMS:
            with self._store.transaction() as tx:
                self._write(tx, n_items=self.n_items)
            self.settle()

    def settle(self) -> None:
        """Mark the written items as committed."""
        self._n_written = self._n_uncommitted
        self._refused = []

    def close(self, problem: str | None) -> None:
        """Write the remaining refusals and end the upload; ``problem`` is why files are missing."""
        found = None
        if problem is not None:
            found = msgspec.to_builtins(Problem(code="not-all-taken", detail=problem))
        with self._store.transaction() as tx:
            with suppress(BatchClosed):
                self._write(tx, n_items=self.n_items)
            work = _receiving(self._batch, self.n_items)
            claims.advance(tx, work, attempt=0, to="taken", values={"problem": found})

    def _write(self, tx: Session, *, n_items: int) -> None:
        """Update the count under the fence, which also extends the deadline; write the refusals."""
        values = {
            "items_total": n_items,
            "next_item": n_items,
            "due_at": claims.seconds_from_now(SILENT_S),
        }
        if not claims.update_held(tx, _receiving(self._batch, self._n_written), 0, values):
            raise BatchClosed(
                f"{self._n_written} recordings were accepted before the batch was closed"
            )
        batch_queries.refuse_items(tx, self._batch, self._n_written, self._refused)
        self._n_uncommitted = n_items


def _receiving(batch: AudioBatch, index: int) -> BatchWork:
    return BatchWork(id=batch.id, state="receiving", next_item=index)


class _Files:
    """Iterates over the files of a form; other fields are skipped."""

    def __init__(self, req: falcon.Request, *, most_files: int) -> None:
        if not is_form(req):
            raise UnsupportedUpload(
                f"send the recordings as multipart/form-data, each in a field '{FIELD}', or name"
                " files in the inbox as application/json"
            )
        self._parts = parts_of(req, most_files=most_files)
        #: The file to read next; None after the last.
        self.current: BodyPart | None = None
        self.advance()

    def advance(self) -> None:
        """Move to the next file; raises what Falcon raises if the form is truncated before it."""
        for part in self._parts:
            if part.name == FIELD:
                self.current = part
                return
            uploads.check_name(part.name)
        self.current = None
