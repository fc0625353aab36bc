"""``/v1/sessions``: upload recordings, follow their progress, read their results."""

from __future__ import annotations

import io
import uuid
from typing import Any

import falcon
from sqlalchemy.orm import Session

from actors.facts.noise_types import with_below
from actors.messaging.broker import Publisher
from actors.messaging.messages import ProcessAudioFile
from actors.observability import tracing
from db.blobs import BlobMissing, Blobs, recording_key
from db.queries import list_queries, session_queries
from db.store import Store
from db.tables.sessions import UNFINISHED_STATES, AudioSession
from services.api.sessions import list_schemas, schemas, uploads
from services.api.sessions.errors import (
    AlreadyFinished,
    EmptyUpload,
    IncompleteUpload,
    NoLevels,
    NotFinished,
    SourceRefused,
    UnknownFormat,
    UploadTooLarge,
)
from services.api.sessions.options import SessionOptions
from services.api.sessions.remote_sources import RemoteSources, Source, is_source_request
from services.http import cursors, idempotency, responses
from services.http.access import owner, principal
from services.http.errors import ServiceError
from services.http.not_found import NotFound
from services.http.operations import operation, query_of
from services.http.request_errors import InvalidBody, InvalidParameter, LengthRequired
from services.http.responses import answer
from services.http.server_errors import StoreUnavailable


def load(store: Store, session_id: uuid.UUID, *, owner: uuid.UUID | None) -> schemas.Session:
    """Return a session as the API shows it to its owner; raises :class:`NotFound`."""
    row = session_queries.shown_session(store, session_id, owner=owner)
    if row is None:
        raise _not_found(session_id)
    return schemas.Session.of(row)


def found(db: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None) -> AudioSession:
    """Return the row of a session.

    Raises
    ------
    NotFound
        Also for a session of another user.
    """
    row = session_queries.get_session(db, session_id, owner=owner)
    if row is None:
        raise _not_found(session_id)
    return row


def _not_found(session_id: uuid.UUID) -> NotFound:
    return NotFound.of("session")(f"no session has the ID {session_id}")


class SessionList:
    """``/v1/sessions``."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        publisher: Publisher,
        elsewhere: RemoteSources,
        *,
        max_upload_bytes: int,
        can_mute: bool,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._publisher = publisher
        self._elsewhere = elsewhere
        self._max_upload_bytes = max_upload_bytes
        self._can_mute = can_mute

    @operation(
        scope="sessions:read", query=list_schemas.SessionQuery, answer=list_schemas.SessionPage
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List sessions, newest first by default."""
        asked = query_of(req, list_schemas.SessionQuery)
        order = list_queries.SESSIONS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            page = list_queries.sessions(
                db, owner=owner(req), order=order, after=after, limit=asked.limit,
                states=asked.state, noise_types=with_below(asked.noise_type),
                min_confidence=asked.min_confidence, created=asked.created,
                batch_id=asked.batch_id, file_name=asked.file_name, recorded=asked.recorded,
                metadata=asked.own_metadata(),
            )  # fmt: skip
        items = [schemas.Session.of(row) for row in page.rows]
        cursor = cursors.following(req, resp, asked, page.next)
        answer(resp, list_schemas.SessionPage(items=items, next_cursor=cursor))

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
            EmptyUpload, IncompleteUpload, InvalidBody, InvalidParameter, LengthRequired,
            NotFound.of("model"), SourceRefused, StoreUnavailable, UnknownFormat,
            NotFound.of("upload"), UploadTooLarge, NotFound.of("webhook"),
        ),
    )  # fmt: skip
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Submit a recording for analysis: the recording itself, or its source. The session in the
        answer shows its progress.

        A body that is neither JSON nor a form is accepted if its first bytes match a supported
        format, whatever its ``Content-Type``, if any.
        """
        asked = query_of(req, SessionOptions)
        columns = asked.columns(
            self._store, user_id=principal(req).user_id, owner=owner(req), can_mute=self._can_mute
        )
        if is_source_request(req):
            session_id = self._elsewhere.add(req, file_name=asked.file_name, asked=columns)
        else:
            session_id = self._add(req, columns, file_name=asked.file_name)
        self._publisher.send(ProcessAudioFile(session_id=session_id))
        self._answer(req, resp, session_id)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the session that an earlier attempt of this request created."""
        try:
            self._answer(req, resp, made_id)
        except NotFound:
            return False
        return True

    def _answer(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        session = load(self._store, session_id, owner=owner(req))
        resp.location = f"/v1/sessions/{session_id}"
        answer(resp, session, status=202)

    def _add(self, req: falcon.Request, columns: dict[str, Any], *, file_name: str) -> uuid.UUID:
        """Store the recording of a request and create its session."""
        session_id = idempotency.new_id(req)
        key = recording_key(session_id)
        upload = self._receive(req, key, file_name=file_name)
        with uploads.row_of(key, store=self._store, blobs=self._blobs) as db:
            session_queries.add_session(
                db, id=session_id, file_name=upload.file_name, size_bytes=upload.size_bytes,
                recording_key=key, user_id=principal(req).user_id,
                traceparent=tracing.current(), **columns,
            )  # fmt: skip
        return session_id

    def _receive(self, req: falcon.Request, key: str, *, file_name: str) -> uploads.Upload:
        try:
            return uploads.receive(
                req, blobs=self._blobs, key=key, max_bytes=self._max_upload_bytes,
                file_name=file_name,
            )  # fmt: skip
        except (ServiceError, falcon.HTTPError):
            raise
        except OSError as error:
            raise StoreUnavailable("the recording could not be stored") from error


class SessionItem:
    """``GET /v1/sessions/{session_id}``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(
        scope="sessions:read",
        answer=schemas.Session,
        also={304: None},
        problems=(NotFound.of("session"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return a session: its state and progress and, once finished, its summary."""
        responses.conditional(req, resp, load(self._store, session_id, owner=owner(req)))

    on_head = on_get


class SessionCancel:
    """``POST /v1/sessions/{session_id}/cancel``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(
        scope="sessions:write",
        answer=schemas.Session,
        problems=(NotFound.of("session"), AlreadyFinished),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Cancel a session. Cancelling it again changes nothing."""
        with self._store.transaction() as db:
            cancelled = session_queries.cancel_session(db, session_id, owner=owner(req))
        session = load(self._store, session_id, owner=owner(req))
        if not cancelled and session.state != "cancelled":
            raise AlreadyFinished(f"the session is {session.state}")
        answer(resp, session)


class SessionLevels:
    """``GET /v1/sessions/{session_id}/levels``."""

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs

    @operation(
        scope="sessions:read",
        answer=schemas.Levels,
        problems=(NotFound.of("session"), NotFinished, NoLevels),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return the levels of the recording, overall and over time."""
        with self._store.transaction() as db:
            session = found(db, session_id, owner=owner(req))
        if session.state in UNFINISHED_STATES:
            raise NotFinished(f"the session is {session.state}")
        if session.levels_answer_key is None:
            raise NoLevels(f"the session is {session.state}")
        try:
            stored = self._blobs.open(session.levels_answer_key)
            n_bytes = stored.seek(0, io.SEEK_END)
            stored.seek(0)
        except BlobMissing:
            raise NoLevels("the levels are no longer stored") from None
        resp.content_type = falcon.MEDIA_JSON
        resp.set_stream(stored, n_bytes)
