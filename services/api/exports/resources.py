"""``/v1/exports``: detections as files in several formats, written by workers, removed later."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import falcon
from sqlalchemy.orm import Session

from actors.facts import export_formats
from actors.messaging.broker import Publisher
from actors.messaging.messages import ExportSessionData
from actors.observability import tracing
from db.blobs import BlobMissing, Blobs, export_prefix
from db.queries import batch_queries, export_queries, list_queries, session_queries
from db.store import Store
from db.tables.exports import Export
from db.tables.sessions import UNFINISHED_STATES
from services.api.exports import schemas
from services.api.exports.errors import ExportExpired, ExportNotDone
from services.api.exports.schemas import ExportPage, ExportQuery, ExportTask, NewExport, Selection
from services.api.sessions import resources as sessions
from services.api.sessions.errors import NotFinished
from services.api.sessions.media import FileRange
from services.http import cursors, idempotency, responses
from services.http.access import owner, principal
from services.http.not_found import NotFound
from services.http.operations import body_of, operation, query_of
from services.http.request_errors import InvalidBody
from services.http.responses import answer
from services.http.server_errors import StoreUnavailable


class ExportList:
    """``/v1/exports``."""

    def __init__(self, store: Store, publisher: Publisher, *, keep_days: float) -> None:
        self._store = store
        self._publisher = publisher
        self._kept = timedelta(days=keep_days)

    @operation(scope="sessions:read", query=ExportQuery, answer=ExportPage)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List exports, newest first by default."""
        asked = query_of(req, ExportQuery)
        order = list_queries.EXPORTS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            page = list_queries.jobs(
                db, Export, owner=owner(req), order=order, after=after, limit=asked.limit,
                states=asked.state, created=asked.created,
                where=export_queries.shown_to(owner(req)),
            )  # fmt: skip
        items = [ExportTask.of(row[0]) for row in page.rows]
        cursor = cursors.following(req, resp, asked, page.next)
        answer(resp, ExportPage(items=items, next_cursor=cursor))

    @operation(
        scope="sessions:read",
        body=NewExport,
        answer=ExportTask,
        status=202,
        problems=(NotFound.of("batch"), InvalidBody, NotFinished, NotFound.of("session")),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Export detections to a file: of sessions, of a batch, or of all that match a filter."""
        asked = body_of(req, NewExport)
        session_ids = sorted(set(asked.session_ids))
        with self._store.transaction() as db:
            _look(db, req, asked)
            row = export_queries.add_export(
                db,
                id=idempotency.new_id(req),
                user_id=principal(req).user_id,
                all_users=principal(req).is_admin,
                traceparent=tracing.current(),
                format=asked.format,
                selection=schemas.stored(asked),
                session_id=session_ids[0] if len(session_ids) == 1 else None,
                expires_at=session_queries.clock(db) + self._kept,
            )
            made = ExportTask.of(row)
        self._publisher.send(ExportSessionData(export_id=made.id))
        _answer(resp, made)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the export that an earlier attempt of this request created."""
        with self._store.reading() as db:
            row = export_queries.get_export(db, made_id, owner=owner(req))
        if row is not None:
            _answer(resp, ExportTask.of(row))
        return row is not None


class ExportItem:
    """``/v1/exports/{export_id}``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope="sessions:read",
        answer=ExportTask,
        also={304: None},
        problems=(NotFound.of("export"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Return an export: its progress and, once completed, its number of detections and size."""
        with self._store.reading() as db:
            row = found(db, export_id, owner=owner(req))
        responses.conditional(req, resp, ExportTask.of(row))

    on_head = on_get

    @operation(
        scope="sessions:read", status=204, problems=(NotFound.of("export"), StoreUnavailable)
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Delete an export and its file. An export in progress is stopped."""
        with self._store.transaction() as db:
            if not export_queries.remove_export(db, export_id, owner=owner(req)):
                raise _not_found(export_id)
        # `clean_up` removes what cannot be removed now: no row refers to it.
        self._blobs.delete(*self._blobs.keys(export_prefix(export_id)))
        resp.status = falcon.HTTP_204


class ExportFile:
    """``GET /v1/exports/{export_id}/file``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope="sessions:read",
        media="*/*",
        problems=(NotFound.of("export"), ExportNotDone, ExportExpired, StoreUnavailable),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Download the file of an export."""
        with self._store.reading() as db:
            row = found(db, export_id, owner=owner(req))
        if row.expires_at <= datetime.now(UTC):
            raise ExportExpired(f"the export expired at {row.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        if row.blob_key is None or row.size_bytes is None:
            raise ExportNotDone(
                f"the export is at {row.percent} percent"
                if row.problem is None
                else f"the export failed: {row.problem['detail']}"
            )
        try:
            stored = self._blobs.open(row.blob_key)
        except BlobMissing:
            raise ExportExpired("the export's file is no longer stored") from None
        extension, media_type = export_formats.file_of(
            row.format, is_single=row.session_id is not None
        )
        resp.content_type = media_type
        resp.downloadable_as = f"clamor-{row.id}.{extension}"
        resp.cache_control = ["private", "no-store"]
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_stream(FileRange(stored, 0, row.size_bytes), row.size_bytes)


def found(db: Session, export_id: uuid.UUID, *, owner: uuid.UUID | None) -> Export:
    """Return the row of an export.

    Raises
    ------
    NotFound
        Also for an export of another user.
    """
    row = export_queries.get_export(db, export_id, owner=owner)
    if row is None:
        raise _not_found(export_id)
    return row


def _look(db: Session, req: falcon.Request, asked: Selection) -> None:
    """Check that the sessions and the batch belong to the caller and that the sessions finished.

    Raises
    ------
    NotFound, NotFinished
    """
    for session_id in asked.session_ids:
        session = sessions.found(db, session_id, owner=owner(req))
        if session.state in UNFINISHED_STATES:
            raise NotFinished(f"the session {session_id} is {session.state}")
    if asked.batch_id is not None:
        batch = batch_queries.get_batch(db, asked.batch_id, owner=owner(req))
        if batch is None:
            raise NotFound.of("batch")(f"no batch has the ID {asked.batch_id}")


def _not_found(export_id: uuid.UUID) -> NotFound:
    return NotFound.of("export")(f"no export has the ID {export_id}")


def _answer(resp: falcon.Response, made: ExportTask) -> None:
    resp.location = f"/v1/exports/{made.id}"
    answer(resp, made, status=202)
