"""Many recordings of one form: each becomes a session as soon as it is there.

So a bad one does not stop the others, and a connection that breaks loses nothing of what came
before: the batch is closed with what it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import falcon
import msgspec
from falcon.media.multipart import BodyPart
from sqlalchemy.orm import Session

from actors.broker import Publisher
from actors.messages import ProcessAudioFile
from db import batch_queries, claims
from db.batch_models import Batch
from db.batch_queries import BatchWork
from db.blobs import Blobs, recording_key
from db.session import Store
from services import schemas, uploads
from services.errors import (
    BatchClosed,
    BatchExists,
    EmptyUpload,
    TooManyFiles,
    UnknownFormat,
    UnsupportedUpload,
    UploadTooLarge,
)
from services.uploads import FIELD, UNKNOWN_BYTES

#: A batch that is being uploaded and of which nothing was heard for so long was forgotten by a
#: server that died, and is closed. No single recording may take longer to arrive.
SILENT_S = 3_600.0


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
        form_options = falcon.media.multipart.MultipartParseOptions()
        # Counted here, where the refusal can say what was taken.
        form_options.max_body_part_count = 0
        self._forms = falcon.media.MultipartFormHandler(form_options)

    def receive(self, req: falcon.Request, values: dict[str, Any]) -> None:
        """Make a batch of a form, and a session of each of its files.

        Raises
        ------
        EmptyUpload, UnsupportedUpload, BatchExists
            There is no batch then.
        BatchClosed, TooManyFiles, InvalidParameter
            And what Falcon raises for a form that breaks off: the batch has what came before.
        """
        parts = _Files(self._forms, req)
        if parts.current is None:
            raise EmptyUpload(f"the form has no field '{FIELD}'")
        with self._store.transaction() as db:
            batch = batch_queries.add_batch(
                db, state="receiving", due_at=claims.seconds_from_now(SILENT_S), **values
            )
        if batch is None:
            raise BatchExists(f"{values['id']} is the id of another batch")
        index = 0
        problem: str | None = "the form broke off; what had arrived was taken"
        try:
            while parts.current is not None:
                if index == self._max_items:
                    problem = f"at most {self._max_items} recordings are taken at once"
                    raise TooManyFiles(f"{problem}; the first of them were")
                self._receive_one(batch, index, parts)
                index += 1
            problem = None
        finally:
            self._close(batch, index, problem)

    def _receive_one(self, batch: Batch, index: int, parts: _Files) -> None:
        """Store one file and make a session of it, or note why not."""
        part = parts.current
        assert part is not None
        key = recording_key(batch_queries.session_id_of(batch.id, index))
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
            with self._store.transaction() as db:
                self._count(db, batch, index)
                batch_queries.refuse_item(db, batch, index, file_name=name, reason=reason)
            return
        with uploads.row_of(key, store=self._store, blobs=self._blobs) as db:
            self._count(db, batch, index)
            session_id = batch_queries.take_item(
                db, batch, index,
                file_name=upload.file_name, size_bytes=upload.size_bytes, key=key,
            )  # fmt: skip
        self._publisher.send(ProcessAudioFile(session_id=session_id))

    def _count(self, db: Session, batch: Batch, index: int) -> None:
        """Count an item, and hold on to the batch; raises :class:`BatchClosed` if it was lost."""
        values = {
            "items_total": index + 1,
            "next_item": index + 1,
            "due_at": claims.seconds_from_now(SILENT_S),
        }
        if not claims.update_held(db, _receiving(batch, index), 0, values):
            raise BatchClosed(f"{index} recordings were taken")

    def _close(self, batch: Batch, index: int, problem: str | None) -> None:
        found = None
        if problem is not None:
            found = msgspec.to_builtins(schemas.Problem(code="not-all-taken", detail=problem))
        with self._store.transaction() as db:
            claims.advance(
                db, _receiving(batch, index), attempt=0, to="taken", values={"problem": found}
            )


def _receiving(batch: Batch, index: int) -> BatchWork:
    return BatchWork(id=batch.id, state="receiving", next_item=index)


class _Files:
    """The files of a form, one after the other; other fields are passed over."""

    def __init__(self, forms: falcon.media.MultipartFormHandler, req: falcon.Request) -> None:
        media_type = (req.content_type or "").partition(";")[0].strip().lower()
        if media_type != "multipart/form-data":
            raise UnsupportedUpload(
                f"send the recordings as multipart/form-data, each in a field '{FIELD}', or name"
                " some in the inbox as application/json"
            )
        length = req.content_length
        ends_by_itself = length is None and req.env.get("wsgi.input_terminated")
        body = req.stream if ends_by_itself else req.bounded_stream
        self._parts: Iterator[BodyPart] = iter(
            forms.deserialize(body, req.content_type, length or UNKNOWN_BYTES)
        )
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
