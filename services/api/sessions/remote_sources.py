"""Recordings that are not in the request: at a URL, or uploaded to the blob store before.

Their session is stored at once; the ``process`` step fetches the recording under its claim
(``actors/audio/fetch.py``).
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import falcon
import msgspec
from sqlalchemy.exc import IntegrityError

from actors.facts import audio_cost, formats
from actors.facts.display_names import display_name
from actors.observability import tracing
from actors.outbound.addresses import MOST_URL_CHARS
from actors.outbound.errors import Refused
from db.blobs.keys import recording_key, upload_key
from db.queries import session_queries
from db.queries.session_queries import RequestedColumns
from services.api.common.errors import EmptyUpload, UnknownFormat, UploadTooLarge
from services.api.sessions import uploads
from services.api.sessions.errors import NoDirectUploads, SourceRefused
from services.http import idempotency
from services.http.access import principal
from services.http.bodies import media_type_of
from services.http.deps import Deps
from services.http.errors import FieldError
from services.http.not_found import NotFound
from services.http.operations import body_of, operation
from services.http.request_errors import BodyTooLarge, InvalidBody
from services.http.resource import Resource
from services.http.responses import answer, if_missing

#: Lifetime of an upload URL. Anyone who has the URL can write to it.
SIGNED_FOR = timedelta(hours=1)


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The source of a recording: exactly one of the two fields."""

    #: An http or https URL to fetch the recording from.
    source_url: Annotated[str, msgspec.Meta(max_length=MOST_URL_CHARS)] | None = None
    #: An upload of ``POST /v1/uploads`` whose bytes have been stored.
    upload_id: uuid.UUID | None = None


class UploadAddress(msgspec.Struct, kw_only=True):
    """A URL that takes a recording directly into the blob store."""

    upload_id: uuid.UUID
    method: str
    url: str
    #: Headers that the request must have besides its length.
    headers: dict[str, str]
    expires_at: datetime


def is_source_request(req: falcon.Request) -> bool:
    """Return whether the request names a source instead of containing the recording."""
    return media_type_of(req) == falcon.MEDIA_JSON


def add(req: falcon.Request, deps: Deps, *, file_name: str, asked: RequestedColumns) -> uuid.UUID:
    """Create the session of a source. An upload that has a session already returns that one.

    Raises
    ------
    BodyTooLarge, EmptyUpload, InvalidBody, NotFound, SourceRefused, UnknownFormat, UploadTooLarge
    """
    try:
        source = body_of(req, Source)
    except BodyTooLarge as error:
        hint = "send a recording with its own Content-Type, such as audio/wav, or without one"
        raise BodyTooLarge(f"{error}; {hint}") from None
    if source.source_url is not None and source.upload_id is None:
        return _of_url(req, deps, source.source_url, file_name, asked)
    if source.upload_id is not None and source.source_url is None:
        return _of_upload(req, deps, source.upload_id, file_name, asked)
    raise InvalidBody.of(
        [FieldError(field="", detail="requires 'source_url' or 'upload_id', but not both")]
    )


def _of_url(
    req: falcon.Request, deps: Deps, given: str, file_name: str, asked: RequestedColumns
) -> uuid.UUID:
    try:
        url = deps.outbound.check(given)
    except Refused as error:
        raise SourceRefused.of([FieldError(field="source_url", detail=str(error))]) from None
    session_id = idempotency.new_id(req)
    with deps.store.transaction() as tx:
        deps.quota.reserve(tx, principal(req))
        session_queries.add_session(
            tx,
            reserved_s=audio_cost.UNKNOWN_S,
            id=session_id,
            file_name=display_name(file_name or url.path),
            recording_key=recording_key(session_id),
            source_url=str(url),
            user_id=principal(req).user_id,
            traceparent=tracing.current(),
            **asked,
        )
    return session_id


def _of_upload(
    req: falcon.Request, deps: Deps, upload_id: uuid.UUID, file_name: str, asked: RequestedColumns
) -> uuid.UUID:
    user_id = principal(req).user_id
    # The key contains the user, so a user cannot use the upload of another.
    key = upload_key(upload_id, user_id)
    with deps.store.reading() as tx:
        session = session_queries.get_session(tx, upload_id, owner=user_id)
    if session is not None and session.source_key == key:
        return upload_id
    with if_missing(
        NotFound.of("upload")(f"you have not stored a file for the upload {upload_id}")
    ):
        size_bytes = deps.blobs.size(key)
    if size_bytes > deps.settings.max_upload_bytes:
        raise UploadTooLarge(
            f"the recording must have at most {deps.settings.max_upload_bytes} bytes"
        )
    if not size_bytes:
        raise EmptyUpload("the recording is empty")
    head = deps.blobs.get_range(key, start=0, length=min(size_bytes, formats.HEAD_BYTES))
    if formats.container_of(head) is None:
        raise UnknownFormat(uploads.UNKNOWN)
    # An integrity error means that a concurrent identical request has created the session.
    with suppress(IntegrityError), deps.store.transaction() as tx:
        deps.quota.reserve(tx, principal(req), size_bytes=size_bytes)
        session_queries.add_session(
            tx,
            reserved_s=audio_cost.promised_cost_s(head, size_bytes),
            id=upload_id,
            file_name=display_name(file_name),
            recording_key=recording_key(upload_id),
            source_key=key,
            user_id=user_id,
            traceparent=tracing.current(),
            **asked,
        )
    return upload_id


class UploadList(Resource):
    """``POST /v1/uploads``."""

    @operation(
        scope="sessions:write",
        answer=UploadAddress,
        secret=True,
        problems=(NoDirectUploads,),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create a URL to upload a recording directly to the blob store."""
        upload_id = uuid.uuid4()
        expires_at = datetime.now(UTC) + SIGNED_FOR
        url = self.deps.blobs.signed_put(
            upload_key(upload_id, principal(req).user_id), expires_in=SIGNED_FOR
        )
        if url is None:
            raise NoDirectUploads(
                "this installation stores recordings in a folder: post the recording itself to"
                " /v1/sessions"
            )
        made = UploadAddress(
            upload_id=upload_id, method="PUT", url=url, headers={}, expires_at=expires_at
        )
        answer(resp, made)
