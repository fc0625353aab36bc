"""``/v1/exports``: detections as files in several formats, written by workers, removed later."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import falcon
from sqlalchemy.orm import Session

from actors.facts import export_formats
from actors.messaging.messages import ExportSessionData
from actors.observability import tracing
from db.queries import (
    batch_queries,
    export_queries,
    list_queries,
    removal_queries,
    session_queries,
)
from db.tables.exports import Export
from db.tables.sessions import UNFINISHED_STATES
from services.api.common import sessions
from services.api.common.errors import NotFinished
from services.api.exports import schemas
from services.api.exports.errors import ExportExpired, ExportNotDone
from services.api.exports.schemas import ExportPage, ExportQuery, ExportTask, NewExport, Selection
from services.http import idempotency, quotas, responses
from services.http.access import owner, principal
from services.http.caller_errors import TooManyUnfinished
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.resource import Resource
from services.http.responses import FileRange, answer, if_missing


class ExportList(Resource):
    """``/v1/exports``."""

    @listing(
        scope="sessions:read",
        query=ExportQuery,
        answer_type=ExportPage,
        orders=list_queries.EXPORTS,
    )
    def on_get(
        self, tx: Session, asked: ExportQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List exports, newest first by default."""
        page = list_queries.jobs(
            tx,
            Export,
            owner=owner,
            states=asked.state,
            created=asked.created,
            where=export_queries.shown_to(owner),
            **part,
        )
        return Listed(page, lambda row: ExportTask.of(row[0]))

    @operation(
        scope="sessions:read",
        body=NewExport,
        answer=ExportTask,
        status=202,
        problems=(
            NotFound.of("batch"),
            NotFinished,
            NotFound.of("session"),
            TooManyUnfinished,
        ),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Export detections to a file: of sessions, of a batch, or of all that match a filter."""
        asked = body_of(req, NewExport)
        session_ids = sorted(set(asked.session_ids))
        with self.deps.store.transaction() as tx:
            _check_selection(tx, req, asked)
            self.deps.quota.check_jobs(tx, principal(req).user_id, quotas.EXPORTS)
            row = export_queries.add_export(
                tx,
                id=idempotency.new_id(req),
                user_id=principal(req).user_id,
                all_users=principal(req).is_admin,
                traceparent=tracing.current(),
                format=asked.format,
                selection=schemas.stored(asked),
                session_id=session_ids[0] if len(session_ids) == 1 else None,
                expires_at=session_queries.clock(tx)
                + timedelta(days=self.deps.settings.export_days),
            )
            made = ExportTask.of(row)
        self.deps.publisher.send(ExportSessionData(export_id=made.id))
        _answer(resp, made)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the export that an earlier attempt of this request created."""
        with self.deps.store.reading() as tx:
            row = _get_or_404(tx, made_id, owner=owner(req))
        _answer(resp, ExportTask.of(row))


class ExportItem(Resource):
    """``/v1/exports/{export_id}``."""

    @operation(
        scope="sessions:read",
        answer=ExportTask,
        also={304: None},
        problems=(NotFound.of("export"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Return an export: its progress and, once completed, its number of detections and size."""
        with self.deps.store.reading() as tx:
            row = _get_or_404(tx, export_id, owner=owner(req))
        responses.conditional(req, resp, ExportTask.of(row))

    @operation(scope="sessions:read", status=204, problems=(NotFound.of("export"),))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Delete an export and its file. An export in progress is stopped."""
        with self.deps.store.transaction() as tx:
            theirs = (Export.id == export_id, *export_queries.shown_to(owner(req)))
            or_404(removal_queries.remove_exports(tx, *theirs) > 0, "export", export_id)
        resp.status = falcon.HTTP_204


class ExportFile(Resource):
    """``GET /v1/exports/{export_id}/file``."""

    @operation(
        scope="sessions:read",
        media="*/*",
        problems=(NotFound.of("export"), ExportNotDone, ExportExpired),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, export_id: uuid.UUID) -> None:
        """Download the file of an export."""
        with self.deps.store.reading() as tx:
            row = _get_or_404(tx, export_id, owner=owner(req))
        if row.expires_at <= datetime.now(UTC):
            raise ExportExpired(f"the export expired at {row.expires_at:%Y-%m-%dT%H:%M:%SZ}")
        if row.blob_key is None or row.size_bytes is None:
            raise ExportNotDone(
                f"the export is at {row.percent} percent"
                if row.problem is None
                else f"the export failed: {row.problem['detail']}"
            )
        with if_missing(ExportExpired("the export's file is no longer stored")):
            stored = self.deps.blobs.open(row.blob_key)
        extension, media_type = export_formats.file_of(
            row.format, is_single=row.session_id is not None
        )
        resp.content_type = media_type
        resp.downloadable_as = f"clamor-{row.id}.{extension}"
        resp.cache_control = ["private", "no-store"]
        resp.set_stream(FileRange(stored, 0, row.size_bytes), row.size_bytes)


def _get_or_404(tx: Session, export_id: uuid.UUID, *, owner: uuid.UUID | None) -> Export:
    """Return the row of an export; raises :class:`NotFound`, also for one of another user."""
    return or_404(export_queries.shown_export(tx, export_id, owner=owner), "export", export_id)


def _check_selection(tx: Session, req: falcon.Request, asked: Selection) -> None:
    """Check that the sessions and the batch belong to the caller and that the sessions finished.

    Raises
    ------
    NotFound, NotFinished
    """
    for session_id in asked.session_ids:
        session = sessions.get_or_404(tx, session_id, owner=owner(req))
        if session.state in UNFINISHED_STATES:
            raise NotFinished(f"the session {session_id} is {session.state}")
    if asked.batch_id is not None:
        batch = batch_queries.get_batch(tx, asked.batch_id, owner=owner(req))
        or_404(batch, "batch", asked.batch_id)


def _answer(resp: falcon.Response, made: ExportTask) -> None:
    answer(resp, made, status=202, location=f"/v1/exports/{made.id}")
