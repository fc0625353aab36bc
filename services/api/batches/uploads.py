"""Many recordings of one form: each becomes a session as soon as it is there.

So a bad one does not stop the others, and a connection that breaks loses nothing of what came
before: the batch is closed with what it has.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any

import falcon
import msgspec
from falcon.media.multipart import BodyPart
from sqlalchemy.orm import Session

from actors.messaging.broker import Publisher
from actors.messaging.messages import ProcessAudioFile
from db.blobs import Blobs, recording_key
from db.queries import batch_queries
from db.queries.batch_queries import BatchWork
from db.queue import claims
from db.store import Store
from db.tables.batches import Batch
from services.api.sessions import schemas, uploads
from services.api.sessions.uploads import FIELD
from services.http.bodies import is_form, parts_of
from services.http.errors import (
    BatchClosed,
    BatchExists,
    EmptyUpload,
    TooManyFiles,
    UnknownFormat,
    UnsupportedUpload,
    UploadTooLarge,
)

#: A batch that is being uploaded and of which nothing was heard for so long was forgotten by a
#: server that died, and is closed. No single recording may take longer to arrive.
SILENT_S = 3_600.0
#: Refusals wait for so long to be written together. Longer saves little: a file that takes its time
#: is a transaction's worth of waiting by itself.
REFUSED_WAIT_S = 1.0


class Receiver:
    """Takes the recordings of a form."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        publisher: Publisher,
        *,
        max_upload_bytes: int,
        max_items: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher
        self._max_upload_bytes = max_upload_bytes
        self._max_items = max_items

    def receive(self, req: falcon.Request, values: dict[str, Any]) -> None:
        """Make a batch of a form, and a session of each of its files.

        Raises
        ------
        EmptyUpload, UnsupportedUpload, BatchExists
            There is no batch then.
        BatchClosed, TooManyFiles, InvalidParameter
            And what Falcon raises for a form that breaks off: the batch has what came before.
        """
        parts = _Files(req, most_files=self._max_items)
        if parts.current is None:
            raise EmptyUpload(f"the form has no field '{FIELD}'")
        with self._store.transaction() as db:
            batch = batch_queries.add_batch(
                db, state="receiving", due_at=claims.seconds_from_now(SILENT_S), **values
            )
        if batch is None:
            raise BatchExists(f"{values['id']} is the id of another batch")
        items = _Items(self._store, batch)
        problem: str | None = "the form broke off; what had arrived was taken"
        try:
            while parts.current is not None:
                if items.n_items == self._max_items:
                    problem = f"at most {self._max_items} recordings are taken at once"
                    raise TooManyFiles(f"{problem}; the first of them were")
                self._receive_one(items, parts)
            problem = None
        finally:
            items.close(problem)

    def _receive_one(self, items: _Items, parts: _Files) -> None:
        """Store one file and make a session of it, or note why not."""
        part = parts.current
        assert part is not None
        key = recording_key(items.next_session_id())
        try:
            # That it is whole shows by what comes behind it.
            upload = uploads.receive_part(
                part, blobs=self._blobs, key=key, max_bytes=self._max_upload_bytes,
                check_end=lambda _n_bytes: parts.advance(),
            )  # fmt: skip
        except (EmptyUpload, UnknownFormat, UploadTooLarge, OSError) as error:
            reason = "it could not be stored" if isinstance(error, OSError) else str(error)
            name = uploads.display_name(part.filename or "")
            if parts.current is part:
                parts.advance()
            items.refuse(name, reason)
            return
        with uploads.row_of(key, store=self._store, blobs=self._blobs) as db:
            session_id = items.take(db, upload, key=key)
        items.settle()
        self._publisher.send(ProcessAudioFile(session_id=session_id))


class _Items:
    """What became of the files of a form, in the order in which they came.

    A session is written at once. Refusals are written together, for each transaction waits for the
    disk: a form of 10,000 empty files would hold its thread for minutes otherwise.
    """

    def __init__(self, store: Store, batch: Batch) -> None:
        self._store = store
        self._batch = batch
        #: Items that are written.
        self._n_written = 0
        #: Names and reasons of those behind them that are not, and when the first of them came.
        self._refused: list[tuple[str, str]] = []
        self._refused_since_s = 0.0
        #: Items that a transaction has written that is not committed yet.
        self._n_uncommitted = 0

    @property
    def n_items(self) -> int:
        """How many files came so far."""
        return self._n_written + len(self._refused)

    def next_session_id(self) -> uuid.UUID:
        """Return the id of the session that the next file becomes."""
        return batch_queries.session_id_of(self._batch.id, self.n_items)

    def take(self, db: Session, upload: uploads.Upload, *, key: str) -> uuid.UUID:
        """Write the session of a file, and all refusals before it; call `settle` after the commit.

        Raises
        ------
        BatchClosed
            If the batch was cancelled or given up meanwhile.
        """
        index = self.n_items
        self._write(db, n_items=index + 1)
        return batch_queries.take_item(
            db, self._batch, index,
            file_name=upload.file_name, size_bytes=upload.size_bytes, key=key,
        )  # fmt: skip

    def refuse(self, file_name: str, reason: str) -> None:
        """Note why a file becomes no session; raises :class:`BatchClosed` as `take` does."""
        now_s = time.monotonic()
        if not self._refused:
            self._refused_since_s = now_s
        self._refused.append((file_name, reason))
        is_old = now_s - self._refused_since_s > REFUSED_WAIT_S
        if is_old or len(self._refused) >= batch_queries.PAGE_ITEMS:
            with self._store.transaction() as db:
                self._write(db, n_items=self.n_items)
            self.settle()

    def settle(self) -> None:
        """Note that what was written is committed."""
        self._n_written = self._n_uncommitted
        self._refused = []

    def close(self, problem: str | None) -> None:
        """Write what is left, and end the receiving, with the reason why there is more."""
        found = None
        if problem is not None:
            found = msgspec.to_builtins(schemas.Problem(code="not-all-taken", detail=problem))
        with self._store.transaction() as db:
            with suppress(BatchClosed):
                self._write(db, n_items=self.n_items)
            work = _receiving(self._batch, self.n_items)
            claims.advance(db, work, attempt=0, to="taken", values={"problem": found})

    def _write(self, db: Session, *, n_items: int) -> None:
        """Count the items behind the fence, which keeps the batch, and note the refusals."""
        values = {
            "items_total": n_items,
            "next_item": n_items,
            "due_at": claims.seconds_from_now(SILENT_S),
        }
        if not claims.update_held(db, _receiving(self._batch, self._n_written), 0, values):
            raise BatchClosed(f"{self._n_written} recordings were taken")
        batch_queries.refuse_items(db, self._batch, self._n_written, self._refused)
        self._n_uncommitted = n_items


def _receiving(batch: Batch, index: int) -> BatchWork:
    return BatchWork(id=batch.id, state="receiving", next_item=index)


class _Files:
    """The files of a form, one after the other; other fields are passed over."""

    def __init__(self, req: falcon.Request, *, most_files: int) -> None:
        if not is_form(req):
            raise UnsupportedUpload(
                f"send the recordings as multipart/form-data, each in a field '{FIELD}', or name"
                " some in the inbox as application/json"
            )
        self._parts = parts_of(req, most_files=most_files)
        #: The file that is to be read now; None behind the last.
        self.current: BodyPart | None = None
        self.advance()

    def advance(self) -> None:
        """Go on to the next file; raises what Falcon raises if the form breaks off before it."""
        for part in self._parts:
            if part.name == FIELD:
                self.current = part
                return
            uploads.check_name(part.name)
        self.current = None
