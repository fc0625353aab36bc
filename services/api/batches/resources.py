"""``/v1/batches``: many recordings in one call, and the result of each."""

from __future__ import annotations

import uuid

import falcon
import msgspec
from sqlalchemy.orm import Session

from actors.messaging.messages import BatchProcessFiles
from actors.observability import tracing
from db.blobs.keys import recording_key
from db.queries import batch_queries, deletion_queries, list_queries
from db.queries.batch_queries import RequestedBatch
from db.store import Store
from db.tables.batches import OPEN_STATES
from db.tables.sessions import PRIORITIES
from services.api.batches import schemas, uploads
from services.api.batches.errors import BatchClosed, BatchExists, BatchNotEmpty, TooManyFiles
from services.api.batches.named import NamedInbox
from services.api.common.errors import AlreadyFinished, EmptyUpload, NotFinished
from services.api.sessions.option_columns import option_columns
from services.api.sessions.options import BatchOptions
from services.http import idempotency, responses
from services.http.access import owner, principal
from services.http.blob_removal import left_to_clean_up
from services.http.bodies import media_type_of
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import operation, query_of
from services.http.request_errors import UnsupportedUpload
from services.http.resource import Resource
from services.http.responses import answer


def fetch_view(store: Store, batch_id: uuid.UUID, *, owner: uuid.UUID | None) -> schemas.Batch:
    """Return a batch as the API shows it to its owner; raises :class:`NotFound`."""
    with store.transaction() as tx:
        row = or_404(batch_queries.get_batch(tx, batch_id, owner=owner), "batch", batch_id)
        files, duration_s = batch_queries.count_items(tx, batch_id)
        noise_types = batch_queries.noise_types_of(tx, batch_id)
    return schemas.Batch.of(row, files=files, duration_s=duration_s, noise_types=noise_types)


class BatchList(Resource):
    """``/v1/batches``."""

    @listing(
        scope="sessions:read",
        query=schemas.BatchQuery,
        answer_type=schemas.BatchPage,
        orders=list_queries.BATCHES,
    )
    def on_get(
        self, tx: Session, asked: schemas.BatchQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List batches, newest first by default."""
        page = list_queries.batches(
            tx, owner=owner, states=asked.state, created=asked.created, **part
        )
        return Listed(page, schemas.ListedBatch.of)

    @operation(
        scope="sessions:write",
        query=BatchOptions,
        body=schemas.NamedRecordings,
        takes={falcon.MEDIA_MULTIPART: schemas.RecordingsForm},
        answer=schemas.Batch,
        status=202,
        takes_audio=True,
        problems=(
            BatchClosed,
            BatchExists,
            EmptyUpload,
            NotFound.of("model"),
            TooManyFiles,
            UnsupportedUpload,
            NotFound.of("webhook"),
        ),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Submit a batch of recordings: a form of files, or JSON that names files in the inbox."""
        asked = query_of(req, BatchOptions)
        columns = option_columns(
            asked,
            self.deps.store,
            user_id=principal(req).user_id,
            owner=owner(req),
            can_mute=self.deps.backbone is not None,
        )
        values = RequestedBatch(
            id=asked.batch_id or idempotency.new_id(req),
            user_id=principal(req).user_id,
            traceparent=tracing.current(),
            priority=PRIORITIES.index(asked.priority),
            options=msgspec.to_builtins(columns),
        )
        # Set even if the form is truncated: the files before that are kept in the batch.
        resp.location = f"/v1/batches/{values['id']}"
        if media_type_of(req) == falcon.MEDIA_JSON:
            self._take_names(req, values)
        else:
            uploads.receive(req, self.deps, values, caller=principal(req))
        answer(resp, fetch_view(self.deps.store, values["id"], owner=owner(req)), status=202)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the batch that an earlier attempt created, even if it is incomplete.

        A batch whose ID the caller chose is not found by ``made_id``, and another attempt may have
        made a batch without one: the request is handled again, and refused with
        :class:`BatchExists` if that batch exists.
        """
        chosen = query_of(req, BatchOptions).batch_id
        if chosen is not None:
            raise NotFound.of("batch")(f"the request names its batch: {chosen}")
        batch = fetch_view(self.deps.store, made_id, owner=owner(req))
        answer(resp, batch, status=202, location=f"/v1/batches/{made_id}")

    def _take_names(self, req: falcon.Request, values: RequestedBatch) -> None:
        """Create a batch of recordings in the inbox; raises :class:`BatchExists`."""
        with (
            NamedInbox(req, most=self.deps.settings.max_batch_items) as named,
            self.deps.store.transaction() as tx,
        ):
            if named.prefix is None:
                batch = batch_queries.add_batch(
                    tx, items_total=named.n_keys, state="expanding", **values
                )
                if batch is not None:
                    batch_queries.add_keys(tx, batch.id, named)
            else:
                batch = batch_queries.add_batch(tx, state="listing", prefix=named.prefix, **values)
            if batch is None:
                raise BatchExists(f"another batch has the ID {values['id']}")
        self.deps.publisher.send(BatchProcessFiles(batch_id=values["id"]))


class BatchResource(Resource):
    """``/v1/batches/{batch_id}``."""

    @operation(
        scope="sessions:read",
        answer=schemas.Batch,
        also={304: None},
        problems=(NotFound.of("batch"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, batch_id: uuid.UUID) -> None:
        """Return a batch: its progress, the number of files by state, and the detections so far."""
        responses.conditional(req, resp, fetch_view(self.deps.store, batch_id, owner=owner(req)))

    @operation(
        scope="sessions:write",
        status=204,
        problems=(NotFound.of("batch"), BatchNotEmpty, NotFinished),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, batch_id: uuid.UUID) -> None:
        """Delete a batch and the names of its files. Its sessions must be deleted before."""
        with self.deps.store.transaction() as tx:
            row = or_404(
                batch_queries.lock_batch(tx, batch_id, owner=owner(req)), "batch", batch_id
            )
            if row.state in OPEN_STATES:
                raise NotFinished(f"the batch is {row.state}; cancel it first")
            if not deletion_queries.remove_batch(tx, batch_id):
                raise BatchNotEmpty(f"the batch {batch_id} has sessions")
        resp.status = falcon.HTTP_204


class BatchItems(Resource):
    """``GET /v1/batches/{batch_id}/items``."""

    @listing(
        scope="sessions:read",
        query=schemas.BatchItemQuery,
        answer_type=schemas.BatchItemPage,
        orders=list_queries.BATCH_ITEMS,
        problems=(NotFound.of("batch"),),
    )
    def on_get(
        self,
        tx: Session,
        asked: schemas.BatchItemQuery,
        part: Part,
        owner: uuid.UUID | None,
        batch_id: uuid.UUID,
    ) -> Listed:
        """List the files of a batch with their results, in the order of their upload."""
        or_404(batch_queries.get_batch(tx, batch_id, owner=owner), "batch", batch_id)
        page = list_queries.batch_items(tx, batch_id, states=asked.state, **part)
        return Listed(page, schemas.BatchItem.of)


class BatchCancel(Resource):
    """``POST /v1/batches/{batch_id}/cancel``."""

    @operation(
        scope="sessions:write",
        answer=schemas.Batch,
        problems=(NotFound.of("batch"), AlreadyFinished),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, batch_id: uuid.UUID) -> None:
        """Cancel a batch and all of its sessions. Cancelling it again changes nothing."""
        with self.deps.store.transaction() as tx:
            row = or_404(
                batch_queries.lock_batch(tx, batch_id, owner=owner(req)), "batch", batch_id
            )
            was_open = row.state in OPEN_STATES
            copied = batch_queries.next_items(tx, batch_id) if was_open else ()
            cancelled = batch_queries.cancel_batch(tx, row)
        batch = fetch_view(self.deps.store, batch_id, owner=owner(req))
        if not cancelled and batch.state != "cancelled":
            raise AlreadyFinished(f"the batch is {batch.state}")
        # A worker that died may have copied recordings that do not become sessions any more.
        unused = [batch_queries.session_id_of(batch_id, item.item_index) for item in copied]
        with left_to_clean_up("copies_not_removed", batch_id=str(batch_id)):
            self.deps.blobs.delete(*(recording_key(session_id) for session_id in unused))
        answer(resp, batch)
