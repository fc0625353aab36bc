"""``/v1/sessions``: upload recordings, follow their progress, read their results."""

from __future__ import annotations

import io
import uuid

import falcon
from sqlalchemy.orm import Session

from actors.facts.noise_types import with_below
from actors.messaging.messages import ProcessAudioFile
from actors.observability import tracing
from db.blobs.keys import recording_key
from db.queries import list_queries, removal_queries, session_queries, session_view_queries
from db.queries.session_queries import RequestedColumns
from db.store import Store
from db.tables.documents.sessions import Levels
from db.tables.sessions import UNFINISHED_STATES
from services.api.common import files, sessions
from services.api.common.errors import (
    AlreadyFinished,
    EmptyUpload,
    NotFinished,
    UnderLegalHold,
    UnknownFormat,
    UploadTooLarge,
)
from services.api.sessions import list_schemas, remote_sources, schemas, uploads
from services.api.sessions.errors import (
    IncompleteUpload,
    NoLevels,
    SourceRefused,
)
from services.api.sessions.option_columns import session_columns
from services.api.sessions.options import SessionOptions
from services.api.sessions.remote_sources import Source, is_source_request
from services.http import idempotency, responses
from services.http.access import owner, principal
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import operation, query_of
from services.http.request_errors import LengthRequired
from services.http.resource import Resource
from services.http.responses import answer, if_missing


def fetch_view(store: Store, session_id: uuid.UUID, *, owner: uuid.UUID | None) -> schemas.Session:
    """Return a session as the API shows it to its owner; raises :class:`NotFound`."""
    row = session_view_queries.session_view(store, session_id, owner=owner)
    return schemas.Session.of(or_404(row, "session", session_id))


class SessionList(Resource):
    """``/v1/sessions``."""

    @listing(
        scope="sessions:read",
        query=list_schemas.SessionQuery,
        answer_type=list_schemas.SessionPage,
        orders=list_queries.SESSIONS,
    )
    def on_get(
        self,
        tx: Session,
        asked: list_schemas.SessionQuery,
        part: Part,
        owner: uuid.UUID | None,
    ) -> Listed:
        """List sessions, newest first by default."""
        page = list_queries.sessions(
            tx,
            owner=owner,
            states=asked.state,
            noise_types=with_below(asked.noise_type),
            min_confidence=asked.min_confidence,
            created=asked.created,
            batch_id=asked.batch_id,
            file_name=asked.file_name,
            recorded=asked.recorded,
            metadata=asked.own_metadata(),
            **part,
        )
        return Listed(page, schemas.Session.of)

    @operation(
        scope="sessions:write",
        query=SessionOptions,
        takes={
            "audio/*": None,
            falcon.MEDIA_MULTIPART: schemas.RecordingForm,
            "application/octet-stream": None,
        },
        body=Source,
        answer=schemas.Session,
        status=202,
        takes_audio=True,
        problems=(
            EmptyUpload,
            IncompleteUpload,
            LengthRequired,
            NotFound.of("model"),
            SourceRefused,
            UnknownFormat,
            NotFound.of("upload"),
            UploadTooLarge,
            NotFound.of("webhook"),
        ),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Submit a recording for analysis: the recording itself, or its source. The session in the
        answer shows its progress.

        A body that is neither JSON nor a form is accepted if its first bytes match a supported
        format, whatever its ``Content-Type``, if any.
        """
        asked = query_of(req, SessionOptions)
        columns = session_columns(
            asked,
            self.deps.store,
            user_id=principal(req).user_id,
            owner=owner(req),
            can_mute=self.deps.backbone is not None,
        )
        if is_source_request(req):
            session_id = remote_sources.add(
                req, self.deps, file_name=asked.file_name, asked=columns
            )
        else:
            session_id = self._add(req, columns, file_name=asked.file_name)
        self.deps.publisher.send(ProcessAudioFile(session_id=session_id))
        self.replay(req, resp, session_id)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the session that this request, or an earlier attempt of it, created."""
        session = fetch_view(self.deps.store, made_id, owner=owner(req))
        answer(resp, session, status=202, location=f"/v1/sessions/{made_id}")

    def _add(self, req: falcon.Request, columns: RequestedColumns, *, file_name: str) -> uuid.UUID:
        """Store the recording of a request and create its session."""
        session_id = idempotency.new_id(req)
        key = recording_key(session_id)
        upload = uploads.receive(
            req,
            blobs=self.deps.blobs,
            key=key,
            max_bytes=self.deps.settings.max_upload_bytes,
            file_name=file_name,
        )
        with files.row_of(key, store=self.deps.store, blobs=self.deps.blobs) as tx:
            self.deps.quota.reserve(tx, principal(req), size_bytes=upload.size_bytes)
            session_queries.add_session(
                tx,
                reserved_s=upload.cost_s,
                id=session_id,
                file_name=upload.file_name,
                size_bytes=upload.size_bytes,
                recording_key=key,
                user_id=principal(req).user_id,
                traceparent=tracing.current(),
                **columns,
            )
        return session_id


class SessionItem(Resource):
    """``/v1/sessions/{session_id}``."""

    @operation(
        scope="sessions:read",
        answer=schemas.Session,
        also={304: None},
        problems=(NotFound.of("session"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return a session: its state and progress and, once finished, its summary."""
        responses.conditional(req, resp, fetch_view(self.deps.store, session_id, owner=owner(req)))

    @operation(
        scope="sessions:write",
        status=204,
        problems=(NotFound.of("session"), UnderLegalHold),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Delete a session with its recording, its results, the clips that would outlive it, and
        the exports that may contain it. Processing in progress is stopped.

        The audio still counts towards the quota if it was analysed. Reports of its day become
        stale. Workers remove the stored files within seconds of the answer.
        """
        with self.deps.store.transaction() as tx:
            removed = removal_queries.forget_session(tx, session_id, owner=owner(req))
        or_404(removed is not None, "session", session_id)
        if not removed:
            raise UnderLegalHold(f"the session {session_id} is under legal hold")
        resp.status = falcon.HTTP_204


class SessionCancel(Resource):
    """``POST /v1/sessions/{session_id}/cancel``."""

    @operation(
        scope="sessions:write",
        answer=schemas.Session,
        problems=(NotFound.of("session"), AlreadyFinished),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Cancel a session. Cancelling it again changes nothing."""
        with self.deps.store.transaction() as tx:
            cancelled = session_queries.cancel_session(tx, session_id, owner=owner(req))
        session = fetch_view(self.deps.store, session_id, owner=owner(req))
        if not cancelled and session.state != "cancelled":
            raise AlreadyFinished(f"the session is {session.state}")
        answer(resp, session)


class SessionLevels(Resource):
    """``GET /v1/sessions/{session_id}/levels``."""

    @operation(
        scope="sessions:read",
        answer=Levels,
        problems=(NotFound.of("session"), NotFinished, NoLevels),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return the levels of the recording, overall and over time."""
        with self.deps.store.transaction() as tx:
            session = sessions.get_or_404(tx, session_id, owner=owner(req))
        if session.state in UNFINISHED_STATES:
            raise NotFinished(f"the session is {session.state}")
        if session.levels_answer_key is None:
            raise NoLevels(f"the session is {session.state}")
        with if_missing(NoLevels("the levels are no longer stored")):
            stored = self.deps.blobs.open(session.levels_answer_key)
            n_bytes = stored.seek(0, io.SEEK_END)
            stored.seek(0)
        resp.content_type = falcon.MEDIA_JSON
        resp.set_stream(stored, n_bytes)
