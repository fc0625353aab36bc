"""Answer every error as a problem (RFC 9457), whatever the ``Accept`` header.

Each error first becomes a `ServiceError`: the framework's errors by `_OF_FRAMEWORK`, errors of the
stores by their kind. An unexpected error becomes
:class:`InternalError`; its cause is written to the log only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import falcon
import msgspec
import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.blobs.errors import BlobError, StorageFull
from db.temporary_errors import is_temporary
from services.http import request_ids
from services.http.caller_errors import RequestUnderWay
from services.http.errors import FieldError, ServiceError
from services.http.request_errors import (
    BadRequest,
    BodyTooLarge,
    InvalidBody,
    InvalidForm,
    InvalidHeader,
    InvalidParameter,
    LengthRequired,
    MethodNotAllowed,
    UnknownRoute,
    UnsupportedMediaType,
)
from services.http.server_errors import InternalError, StoreUnavailable

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
#: Path of the problem pages, relative to the API's base URL.
TYPES = "/problems/"

#: The problem for each error of the framework; the first match counts. The framework's titles
#: may change with a release, so they do not identify anything.
_OF_FRAMEWORK: tuple[tuple[type[falcon.HTTPError], type[ServiceError]], ...] = (
    (falcon.HTTPNotFound, UnknownRoute),
    (falcon.HTTPMethodNotAllowed, MethodNotAllowed),
    (falcon.MultipartParseError, InvalidForm),
    (falcon.MediaMalformedError, InvalidBody),
    (falcon.HTTPInvalidParam, InvalidParameter),
    (falcon.HTTPMissingParam, InvalidParameter),
    (falcon.HTTPInvalidHeader, InvalidHeader),
    (falcon.HTTPMissingHeader, InvalidHeader),
    (falcon.HTTPLengthRequired, LengthRequired),
    (falcon.HTTPContentTooLarge, BodyTooLarge),
    (falcon.HTTPUnsupportedMediaType, UnsupportedMediaType),
)


class ProblemDetails(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of every error (RFC 9457)."""

    #: Address of the page that explains the problem type; stable.
    type: str
    title: str
    status: int
    detail: str = ""
    #: Identifies the request in the server's log.
    request_id: str = ""
    #: Figures of a rejected promotion.
    comparison: dict[str, Any] | None = None
    #: Of an exceeded quota: seconds of audio, and the time of renewal.
    used_s: float | None = None
    reserved_s: float | None = None
    limit_s: float | None = None
    renews_at: datetime | None = None
    #: Of another limit of a user: its name in ``GET /v1/usage``, and its numbers.
    limit: str | None = None
    used: int | None = None
    most: int | None = None
    #: The invalid fields and the reasons.
    errors: list[FieldError] = []


def install(app: falcon.App[Any, Any]) -> None:
    """Register the handlers that turn every error of the application into a problem."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _framework_error)
    app.add_error_handler(IntegrityError, _in_conflict)
    app.add_error_handler(DBAPIError, _database_failed)
    app.add_error_handler(PoolTimeout, _database_failed)
    app.add_error_handler(BlobError, _blob_store_away)
    app.add_error_handler(ServiceError, _service_error)


def answer(req: falcon.Request, resp: falcon.Response, error: ServiceError) -> None:
    """Answer with an error."""
    # The error may occur before any middleware has run, so set the ID here.
    request_id = request_ids.name(req, resp)
    for header, value in error.headers.items():
        resp.set_header(header, value)
    if error.retry_after_s is not None:
        resp.set_header("Retry-After", str(error.retry_after_s))
    problem = ProblemDetails(
        type=TYPES + error.name,
        title=error.title,
        status=error.status,
        detail=str(error),
        request_id=request_id,
        **error.extension,
    )
    resp.status = error.status
    resp.content_type = PROBLEM_JSON
    # Discard what the responder had prepared.
    resp.text = None
    resp.stream = None
    resp.delete_header("ETag")
    resp.data = msgspec.json.encode(problem)


def of_framework(error: falcon.HTTPError) -> ServiceError:
    """Return the problem for an error of the framework."""
    fallback = InternalError if error.status_code >= 500 else BadRequest
    kind = next((ours for theirs, ours in _OF_FRAMEWORK if isinstance(error, theirs)), fallback)
    made = kind(error.description or "")
    # Such as Allow and Content-Range.
    made.headers = dict(error.headers or {})
    return made


def _service_error(
    req: falcon.Request, resp: falcon.Response, error: ServiceError, _params: object
) -> None:
    answer(req, resp, error)


def _framework_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: object
) -> None:
    answer(req, resp, of_framework(error))


def _in_conflict(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: object
) -> None:
    if getattr(req.context, "claim", None) is None:
        _unexpected(req, resp, error, params)
        return
    # The lease ran out while this attempt was still running: another attempt was first.
    log.warning("request_made_twice", error=type(error).__name__)
    answer(req, resp, RequestUnderWay("another attempt at this request finished first; retry"))


def _database_failed(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: object
) -> None:
    if not is_temporary(error):
        _unexpected(req, resp, error, params)
        return
    request_ids.name(req, resp)
    log.warning("database_away", error=type(error).__name__)
    answer(req, resp, StoreUnavailable("the database does not respond"))


def _blob_store_away(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    request_ids.name(req, resp)
    # The message may contain hosts and folders, so it goes to the log only.
    log.warning("blob_store_away", error=str(error).partition("\n")[0])
    is_full = isinstance(error, StorageFull)
    answer(
        req,
        resp,
        StoreUnavailable(f"the blob store {'is full' if is_full else 'does not respond'}"),
    )


def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    request_ids.name(req, resp)
    log.error("request_failed", exc_info=error)
    answer(req, resp, InternalError("the server's log has the cause under the request ID"))


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    _framework_error(req, resp, error, None)
