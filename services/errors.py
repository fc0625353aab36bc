"""One table: what went wrong -> what the caller reads (RFC 9457 problem+json).

A problem's ``type`` is a path of this API's documentation and its stable name; ``title`` says the
same to a person; ``detail`` speaks of this one occurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import falcon
import msgspec
import structlog
from obstore.exceptions import BaseError as BlobStoreError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
#: What a caller is asked to wait where another try may help.
RETRY_AFTER_S = 5


class UserError(Exception):
    """Something that the person at the terminal can mend; the message tells what."""


class FieldError(msgspec.Struct):
    """What is wrong with one field; an empty name stands for the whole."""

    field: str
    detail: str


class ServiceError(Exception):
    """A request that cannot be served.

    ::

        ServiceError
        ├── BatchNotFound      404
        ├── BatchExists        409  there is a batch of the id that the caller chose
        ├── BatchClosed        409  the batch takes no more recordings
        ├── EmptyUpload        400  the request bears no recording
        ├── IncompleteUpload   400  the body ended before its announced length
        ├── InvalidForm        400  a field of a form is missing, strange or twice there
        ├── InvalidManifest    400  the manifest cannot be used; its lines are named
        ├── InvalidOptions     400  the options cannot be used
        ├── InvalidParameter   400  a parameter is not what it must be
        ├── ModelNotFound      404
        ├── NoLevels           404  the session ended without levels
        ├── NoRecording        404  the recording is no longer stored
        ├── NoSpectrogram      404  the session ended without a picture
        ├── SessionNotFound    404
        ├── TrainingNotFound   404
        ├── ValidationNotFound 404
        ├── NotFinished        409  the session has not come to its end
        ├── InvalidBody        400  the JSON body is not what it must be
        ├── Unauthenticated    401  no key, or one that is not taken
        ├── MissingScope       403  the key does not allow this
        ├── KeyNotFound        404
        ├── UserNotFound       404
        ├── TooManyKeys        409  there are two active keys of the name
        ├── UserExists         409  there is a user of this address
        ├── AlreadyFinished    409  the session is at its end and cannot be cancelled
        ├── ModelDamaged       409  the model's file is not the one that was registered
        ├── Regression         409  the model is worse than the one in use
        ├── LengthRequired     411  a raw body must announce its length
        ├── BodyTooLarge       413  a JSON body is too large
        ├── TooManyFiles       413  a batch has more recordings than are taken at once
        ├── UploadTooLarge     413
        ├── RangeNotSatisfiable 416  nothing of the recording lies in the range
        ├── UnsupportedMediaType 415  the body is not JSON
        ├── UnsupportedUpload  415  neither multipart/form-data nor a raw body
        ├── Stopping           503  this process is about to end
        ├── StoreUnavailable   503  the database or the blob store is away
        └── TooManyStreams     503  every place for a stream of events is taken
    """

    status = 500
    name = "internal-error"
    title = "Something went wrong here"
    #: What the problem bears beside its own members.
    extension: dict[str, Any] = {}  # noqa: RUF012  (never changed)


class BatchNotFound(ServiceError):
    """There is no such batch."""

    status, name, title = 404, "batch-not-found", "There is no such batch"


class BatchExists(ServiceError):
    """There is a batch of the id that the caller chose."""

    status, name, title = 409, "batch-exists", "There is a batch of this id already"


class BatchClosed(ServiceError):
    """The batch takes no more recordings: it was cancelled, or was silent for too long."""

    status, name, title = 409, "batch-closed", "The batch takes no more recordings"


class TooManyFiles(ServiceError):
    """A batch with more recordings than this server takes at once."""

    status, name, title = 413, "too-many-files", "The batch has too many recordings"


class EmptyUpload(ServiceError):
    """The request bears no recording."""

    status, name, title = 400, "empty-upload", "The request bears no recording"


class IncompleteUpload(ServiceError):
    """The body ended before its announced length."""

    status, name, title = 400, "incomplete-upload", "The body ended too early"


class InvalidForm(ServiceError):
    """A field of a form is missing, strange or twice there."""

    status, name, title = 400, "invalid-form", "The form is not what it must be"


class InvalidManifest(ServiceError):
    """The manifest cannot be used; its lines are named."""

    status, name, title = 400, "invalid-manifest", "The manifest cannot be used"


class InvalidOptions(ServiceError):
    """The options cannot be used."""

    status, name, title = 400, "invalid-options", "The options cannot be used"


class InvalidFields(ServiceError):
    """Fields are not what they must be; each is named."""

    status, name, title = 400, "invalid-fields", "A field is not what it must be"

    @classmethod
    def of(cls, errors: Sequence[FieldError]) -> Self:
        """The refusal of some fields."""
        told = "; ".join(
            f"'{each.field}': {each.detail}" if each.field else each.detail for each in errors
        )
        made = cls(told)
        made.extension = {"errors": list(errors)}
        return made


class InvalidParameter(InvalidFields):
    """A parameter is not what it must be."""

    status, name, title = 400, "invalid-parameter", "A parameter is not what it must be"


class InvalidBody(InvalidFields):
    """The JSON body is not what it must be."""

    status, name, title = 400, "invalid-body", "The body is not what it must be"


class Unauthenticated(ServiceError):
    """No key was shown, or one that is not taken."""

    status, name, title = 401, "unauthenticated", "A key is needed"


class MissingScope(ServiceError):
    """The key does not allow this."""

    status, name, title = 403, "missing-scope", "The key does not allow this"


class BodyTooLarge(ServiceError):
    """A JSON body has more bytes than are taken."""

    status, name, title = 413, "body-too-large", "The body is too large"


class UnsupportedMediaType(ServiceError):
    """The body is of another kind than JSON."""

    status, name, title = 415, "unsupported-media-type", "The body is not JSON"


class ModelNotFound(ServiceError):
    """There is no such model."""

    status, name, title = 404, "model-not-found", "There is no such model"


class UserNotFound(ServiceError):
    """There is no such user."""

    status, name, title = 404, "user-not-found", "There is no such user"


class KeyNotFound(ServiceError):
    """There is no such key."""

    status, name, title = 404, "key-not-found", "There is no such key"


class UserExists(ServiceError):
    """There is a user of this address."""

    status, name, title = 409, "user-exists", "There is a user of this address already"


class TooManyKeys(ServiceError):
    """A user has two active keys of the name: one must be revoked, or expire, first."""

    status, name, title = 409, "too-many-keys", "There are two active keys of this name"


class SessionNotFound(ServiceError):
    """There is no such session."""

    status, name, title = 404, "session-not-found", "There is no such session"


class TrainingNotFound(ServiceError):
    """There is no such training."""

    status, name, title = 404, "training-not-found", "There is no such training"


class ValidationNotFound(ServiceError):
    """There is no such validation."""

    status, name, title = 404, "validation-not-found", "There is no such validation"


class NoLevels(ServiceError):
    """The session ended without levels."""

    status, name, title = 404, "no-levels", "The session has no levels"


class NoRecording(ServiceError):
    """The recording is no longer stored."""

    status, name, title = 404, "no-recording", "The recording is no longer there"


class NoSpectrogram(ServiceError):
    """The session ended without a picture."""

    status, name, title = 404, "no-spectrogram", "The session has no spectrogram"


class NotFinished(ServiceError):
    """The session has not come to its end."""

    status, name, title = 409, "not-finished", "The session has not finished"


class AlreadyFinished(ServiceError):
    """The session is at its end and cannot be cancelled."""

    status, name, title = 409, "already-finished", "The session has already finished"


class ModelDamaged(ServiceError):
    """The model's file is not the one that was registered."""

    status, name, title = 409, "model-damaged", "The model's file is damaged"


class Regression(ServiceError):
    """The model is worse than the one in use."""

    status, name, title = 409, "regression", "The model is worse than the one in use"

    def __init__(self, detail: str, *, comparison: dict[str, Any]) -> None:
        super().__init__(detail)
        self.extension = {"comparison": comparison}


class LengthRequired(ServiceError):
    """A raw body must announce its length."""

    status, name, title = 411, "length-required", "A raw body needs a Content-Length"


class UploadTooLarge(ServiceError):
    """The recording has more bytes than this server takes."""

    status, name, title = 413, "upload-too-large", "The recording is too large"


class RangeNotSatisfiable(ServiceError):
    """Nothing of the recording lies in the range that is asked for."""

    status, name, title = 416, "range-not-satisfiable", "The range lies behind the end"

    def __init__(self, detail: str, *, size_bytes: int) -> None:
        super().__init__(detail)
        self.size_bytes = size_bytes


class UnsupportedUpload(ServiceError):
    """The body is of a kind that this server does not take."""

    status, name, title = 415, "unsupported-upload", "The body's media type is not supported"


class Stopping(ServiceError):
    """This process is about to end; another one answers."""

    status, name, title = 503, "stopping", "This process is about to end; try again soon"


class StoreUnavailable(ServiceError):
    """A store that the answer needs is away for now."""

    status, name, title = 503, "store-unavailable", "A store is away; try again soon"


class TooManyStreams(ServiceError):
    """Every place for a stream of events is taken."""

    status, name, title = 503, "too-many-streams", "Too many streams of events are under way"


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of every error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    request_id: str = ""
    #: The figures of a refused promotion.
    comparison: dict[str, Any] | None = None
    #: What is wrong with which field.
    errors: list[FieldError] = []


def install(app: falcon.App[Any, Any]) -> None:
    """Give every error of the application this one shape, whatever the caller accepts."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _falcon_error)
    app.add_error_handler((OperationalError, PoolTimeout), _database_away)
    app.add_error_handler(BlobStoreError, _blob_store_away)
    app.add_error_handler(ServiceError, _service_error)


def _answer(
    req: falcon.Request,
    resp: falcon.Response,
    *,
    status: int,
    name: str,
    title: str,
    detail: str,
    extension: dict[str, Any] | None = None,
) -> None:
    problem = ProblemDetails(
        type=f"/problems/{name}",
        title=title,
        status=status,
        detail=detail,
        request_id=getattr(req.context, "request_id", ""),
        **(extension or {}),
    )
    resp.status = status
    resp.content_type = PROBLEM_JSON
    resp.text = None
    resp.data = msgspec.json.encode(problem)


def _service_error(
    req: falcon.Request, resp: falcon.Response, error: ServiceError, _params: object
) -> None:
    if error.status == StoreUnavailable.status:
        resp.set_header("Retry-After", str(RETRY_AFTER_S))
    if isinstance(error, RangeNotSatisfiable):
        resp.set_header("Content-Range", f"bytes */{error.size_bytes}")
    if error.status == Unauthenticated.status:
        resp.set_header("WWW-Authenticate", 'Bearer realm="clamor"')
    _answer(
        req, resp, status=error.status, name=error.name, title=error.title, detail=str(error),
        extension=error.extension,
    )  # fmt: skip


def _database_away(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: object
) -> None:
    log.warning("database_away", error=type(error).__name__)
    _service_error(req, resp, StoreUnavailable("the database does not answer"), params)


def _blob_store_away(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: object
) -> None:
    # Its own words may name hosts and folders: they are for the log alone.
    log.warning("blob_store_away", error=str(error).partition("\n")[0])
    _service_error(req, resp, StoreUnavailable("the blob store does not answer"), params)


def _falcon_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: object
) -> None:
    for header, value in dict(error.headers or {}).items():
        resp.set_header(header, value)
    title = error.title or "The request cannot be served"
    name = "-".join(title.lower().split()[1:] if title[:3].isdigit() else title.lower().split())
    _answer(
        req,
        resp,
        status=error.status_code,
        name=name,
        title=title,
        detail=error.description or "",
    )


def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    log.error("request_failed", exc_info=error)
    _answer(
        req,
        resp,
        status=500,
        name=ServiceError.name,
        title=ServiceError.title,
        detail="the request id finds the reason in the server's log",
    )


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    _falcon_error(req, resp, error, None)
