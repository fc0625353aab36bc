"""The responses of an operation in the OpenAPI document: its own, and its problems."""

from __future__ import annotations

import itertools
from http import HTTPStatus
from typing import TypedDict

import falcon
import msgspec

from services.http.caller_errors import (
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    MissingScope,
    QuotaExceeded,
    RateLimited,
    RequestUnderWay,
    SecretNotShown,
    StorageQuotaExceeded,
    TooManyAtOnce,
    TooManyUnfinished,
    Unauthenticated,
)
from services.http.errors import ServiceError
from services.http.operations import Operation
from services.http.problems import PROBLEM_JSON, TYPES, ProblemDetails
from services.http.request_errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidForm,
    InvalidHeader,
    InvalidParameter,
    UnsupportedMediaType,
)
from services.http.server_errors import InternalError, ServerBusy, StoreUnavailable
from services.openapi.examples import Example
from services.openapi.json_schemas import BINARY, REF, prose
from services.openapi.objects import (
    MediaTypeObject,
    ReferenceObject,
    ResponseObject,
    SchemaObject,
)
from services.openapi.words import (
    HEADERS_OF,
    LANGUAGE_HEADERS,
    RATE_HEADERS,
)

#: Statuses of answers with a Location header.
LOCATED = {201, 202, 303}


def problems_of(promise: Operation) -> list[type[ServiceError]]:
    """Return all problems that an operation may return, by status and name."""
    found: set[type[ServiceError]] = {InternalError, InvalidParameter, *promise.problems}
    if promise.scope is not None:
        found |= {Unauthenticated, MissingScope, RateLimited, StoreUnavailable}
        found |= {TooManyAtOnce, ServerBusy}
    if promise.takes_audio:
        found |= {QuotaExceeded, StorageQuotaExceeded, TooManyUnfinished}
    if promise.keyed:
        found |= {InvalidIdempotencyKey, RequestUnderWay, IdempotencyKeyReused}
    if promise.keyed and promise.secret:
        found.add(SecretNotShown)
    if promise.body is not None:
        found |= {InvalidBody, BodyTooLarge, UnsupportedMediaType}
    if promise.body is not None or promise.takes:
        found.add(InvalidHeader)
    if falcon.MEDIA_MULTIPART in promise.takes:
        found.add(InvalidForm)
    return sorted(found, key=lambda kind: (kind.status, kind.name))


def responses_of(promise: Operation, example: Example) -> dict[str, ResponseObject]:
    """Return the responses of an operation by status: its own, and its problems."""
    good: ResponseObject = {"headers": {}}
    if promise.status != HTTPStatus.NO_CONTENT:
        body: MediaTypeObject = {"schema": _schema_of(promise.media, promise.answer)}
        if example.answer is not None:
            body["example"] = example.answer
        good["content"] = {promise.media: body}
    if promise.keyed:
        good["headers"]["Idempotent-Replayed"] = _header("Idempotent-Replayed")
    if promise.answer is not None and "next_cursor" in promise.answer.__struct_fields__:
        good["headers"]["Link"] = _header("Link")
    responses = {promise.status: good}
    for status, kind in promise.also.items():
        responses[status] = {"headers": {}}
        if kind is not None:
            schema = _schema_of(promise.media, kind)
            responses[status]["content"] = {promise.media: {"schema": schema}}
    for status in responses.keys() & LOCATED:
        responses[status]["headers"]["Location"] = _header("Location")
    if 304 in promise.also:
        for status in (promise.status, 304):
            responses[status]["headers"]["ETag"] = _header("ETag")
    if promise.is_translated:
        for name, response in itertools.product(LANGUAGE_HEADERS, responses.values()):
            response["headers"][name] = _header(name)
    for status, written in _refusals(promise).items():
        # An operation may also define an answer of its own for the status, such as 503.
        known = responses.setdefault(status, {"headers": {}})
        known["headers"] |= written["headers"]
        known["content"] = known.get("content", {}) | written["content"]
    for status, response in responses.items():
        if promise.scope is not None:
            for name in RATE_HEADERS:
                response["headers"][name] = _header(name)
        response.setdefault("description", HTTPStatus(status).phrase)
        response["headers"]["X-Request-ID"] = _header("X-Request-ID")
    return {str(status): responses[status] for status in sorted(responses)}


def _schema_of(media: str, kind: type[msgspec.Struct] | type[bytes] | None) -> SchemaObject:
    if kind is not None and issubclass(kind, msgspec.Struct):
        return ref(kind)
    if media == falcon.MEDIA_JSON:
        return {"type": "object"}
    if media == "text/event-stream":
        # OpenAPI 3.1 does not define whether a schema applies to the stream or to each event.
        return {}
    return {"type": "string"} if media.startswith("text/") else BINARY


class _Refusal(TypedDict):
    headers: dict[str, ReferenceObject]
    content: dict[str, MediaTypeObject]


def _refusals(promise: Operation) -> dict[int, _Refusal]:
    """Return the problems of an operation as responses, by status."""
    by_status: dict[int, _Refusal] = {}
    for kind in problems_of(promise):
        written = by_status.setdefault(
            kind.status,
            {
                "headers": {
                    name: _header(name)
                    for name, statuses in HEADERS_OF.items()
                    if kind.status in statuses
                },
                "content": {PROBLEM_JSON: {"schema": ref(ProblemDetails), "examples": {}}},
            },
        )
        examples = written["content"][PROBLEM_JSON]["examples"]
        examples[kind.name] = {"$ref": f"#/components/examples/{kind.name}"}
    return by_status


def problem_example(kind: type[ServiceError]) -> dict[str, str | int]:
    """Return an example of a problem."""
    return {
        "type": TYPES + kind.name,
        "title": kind.title,
        "status": kind.status,
        "detail": prose(kind.__doc__).partition("\n\n")[0],
        "request_id": "0b5c7f9f3ee54f61a4d3a4b6d0f7c2de",
    }


def _header(name: str) -> ReferenceObject:
    return {"$ref": f"#/components/headers/{name}"}


def ref(kind: type[msgspec.Struct]) -> SchemaObject:
    """Return the reference to the schema of a struct."""
    return {"$ref": REF.format(name=kind.__name__)}
