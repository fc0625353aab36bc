"""How errors are answered: each as a problem (RFC 9457), whatever the caller accepts.

Whatever goes wrong becomes one of the classes of `services.http.errors` first: the framework's own
errors by `_OF_FRAMEWORK`, errors of the stores by their kind, and all that nobody foresaw becomes
:class:`InternalError`, whose reason is in the log and nowhere else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import falcon
import msgspec
import structlog
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.blobs import BlobError, BlobsFull
from services.http import request_ids
from services.http.errors import (
    BadRequest,
    BodyTooLarge,
    FieldError,
    InternalError,
    InvalidBody,
    InvalidForm,
    InvalidHeader,
    InvalidParameter,
    LengthRequired,
    MethodNotAllowed,
    RequestUnderWay,
    ServiceError,
    StoreUnavailable,
    UnknownRoute,
    UnsupportedMediaType,
)

log = structlog.get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
#: Where the documentation of a problem's type is, below the API's own address.
TYPES = "/problems/"

#: What an error of the framework is here; the first that fits. Its own title is for people, and
#: may be another one in its next release: it names nothing.
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

    #: Where this kind of problem is explained; does not change.
    type: str
    title: str
    status: int
    detail: str = ""
    #: Finds the request in the server's log.
    request_id: str = ""
    #: The figures of a refused promotion.
    comparison: dict[str, Any] | None = None
    #: Of a quota that is used up: seconds of audio, and when it renews.
    used_s: float | None = None
    limit_s: float | None = None
    renews_at: datetime | None = None
    #: What is wrong with which field.
    errors: list[FieldError] = []


def install(app: falcon.App[Any, Any]) -> None:
    """Give every error of the application this one shape."""
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _framework_error)
    app.add_error_handler(IntegrityError, _in_conflict)
    app.add_error_handler(OperationalError, _database_away)
    app.add_error_handler(PoolTimeout, _database_away)
    app.add_error_handler(BlobError, _blob_store_away)
    app.add_error_handler(ServiceError, _service_error)


def answer(req: falcon.Request, resp: falcon.Response, error: ServiceError) -> None:
    """Answer with an error."""
    # An error may come before any middleware has run; it has an id all the same.
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
    # What the responder had meant to say.
    resp.text = None
    resp.stream = None
    resp.delete_header("ETag")
    resp.data = msgspec.json.encode(problem)


def of_framework(error: falcon.HTTPError) -> ServiceError:
    """What an error of the framework is here."""
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
    # Two attempts at one request were thought dead and alive in turn: the other one has made it.
    log.warning("request_made_twice", error=type(error).__name__)
    answer(req, resp, RequestUnderWay("another attempt at the same request was quicker"))


def _database_away(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    request_ids.name(req, resp)
    log.warning("database_away", error=type(error).__name__)
    answer(req, resp, StoreUnavailable("the database does not answer"))


def _blob_store_away(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    request_ids.name(req, resp)
    # Its own words may name hosts and folders: they are for the log alone.
    log.warning("blob_store_away", error=str(error).partition("\n")[0])
    is_full = isinstance(error, BlobsFull)
    answer(
        req,
        resp,
        StoreUnavailable(f"the blob store {'has no room' if is_full else 'does not answer'}"),
    )


def _unexpected(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
) -> None:
    request_ids.name(req, resp)
    log.error("request_failed", exc_info=error)
    answer(req, resp, InternalError("the request id finds the reason in the server's log"))


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    _framework_error(req, resp, error, None)
