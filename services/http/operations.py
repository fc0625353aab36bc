"""The contract of an endpoint: its scope, its input and its responses.

Each responder is decorated with :func:`operation`. Access control, the parsing of parameters and
bodies, and the OpenAPI document all use it, so they cannot disagree. An application with an
undecorated responder is not built.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin

import falcon
import msgspec

from db import typed
from services.http.bodies import discard, media_type_of
from services.http.errors import FieldError, InvalidFields, ServiceError
from services.http.field_errors import MOST_TOLD_CHARS, RefusedValue, field_error, no_json
from services.http.request_errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidParameter,
    UnknownRoute,
    UnsupportedMediaType,
)

T = TypeVar("T", bound=msgspec.Struct)
Responder = TypeVar("Responder", bound=Callable[..., Any])

#: HEAD has the operation of GET.
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Maximum size of a JSON body, except for lists that are read piece by piece.
MOST_BODY_BYTES = 64 * 1024
#: The one character that Postgres cannot store in a text.
_NO_NUL = "must not contain the character U+0000"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The contract of one responder."""

    #: The required scope (``db.tables.accounts.SCOPES``); None if no key is required.
    scope: str | None
    #: The query parameters; None if there are none. Others are rejected.
    query: type[msgspec.Struct] | None = None
    #: The JSON body; None if there is none, or if it is not JSON.
    body: type[msgspec.Struct] | None = None
    #: Other bodies by media type: the struct of the fields of a form (files are ``bytes``), or
    #: None for raw bytes.
    takes: Mapping[str, type[msgspec.Struct] | None] = dataclasses.field(default_factory=dict)
    #: Whether the body is optional.
    bodiless: bool = False
    #: The JSON response; None if there is none, or if it is not JSON.
    answer: type[msgspec.Struct] | None = None
    #: Media type of the response.
    media: str = falcon.MEDIA_JSON
    status: int = 200
    #: Responses with other statuses that are not problems: the JSON, bytes of the same media type,
    #: or None for one without a body.
    also: Mapping[int, type[msgspec.Struct] | type[bytes] | None] = dataclasses.field(
        default_factory=dict
    )
    #: Problems in addition to those that every endpoint may have.
    problems: tuple[type[ServiceError], ...] = ()
    #: Whether the response contains a secret, which is not stored.
    secret: bool = False
    #: Whether it submits audio, which counts against the caller's quota.
    takes_audio: bool = False
    #: Whether the response is translated according to ``Accept-Language``.
    is_translated: bool = False
    #: Whether it is part of the API, and so of the OpenAPI document. A page that uses the API like
    #: any client is not.
    is_described: bool = True
    #: Whether any query parameters are accepted, as for a page whose script reads them.
    any_query: bool = False
    #: Whether ``Idempotency-Key`` is supported: by every POST that requires a key.
    keyed: bool = False


def operation(*, scope: str | None, **promise: Any) -> Callable[[Responder], Responder]:
    """Attach an :class:`Operation` to a responder."""

    def give(responder: Responder) -> Responder:
        keyed = responder.__name__ == "on_post" and scope is not None
        made = Operation(scope=scope, keyed=keyed, **promise)
        responder.operation = made  # type: ignore[attr-defined]
        return responder

    return give


def operations(resource: object) -> dict[str, Operation]:
    """Return the operations of a resource by method.

    Raises
    ------
    TypeError
        If a responder has none.
    """
    found = {}
    for method in METHODS:
        responder = getattr(resource, f"on_{method.lower()}", None)
        if responder is None:
            continue
        if not hasattr(responder, "operation"):
            raise TypeError(f"{type(resource).__name__}.on_{method.lower()} has no @operation")
        found[method] = responder.operation
    return found


def operation_of(req: falcon.Request, resource: object) -> Operation | None:
    """Return the operation of a request; None if the method is not allowed."""
    responder = getattr(resource, f"on_{req.method.lower()}", None)
    return getattr(responder, "operation", None)


class Parameters:
    """Middleware that validates the path and the query before the responder runs.

    Queries are parsed only here, so no endpoint can ignore an unknown parameter.
    """

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Parse the query; raises :class:`InvalidParameter`, which names each invalid parameter."""
        # No text in the database contains this character, so no such ID exists.
        if "\x00" in req.path:
            raise UnknownRoute
        operation = operation_of(req, resource)
        if operation is None:
            return
        if operation.query is not None:
            req.context.query = _query(req, operation.query)
        elif req.params and not operation.any_query:
            raise InvalidParameter.of([_unknown(name) for name in req.params])


def query_of(req: falcon.Request, kind: type[T]) -> T:
    """Return the parsed query; ``kind`` is the ``query`` of the responder's operation."""
    query = req.context.query
    assert isinstance(query, kind)
    return query


def _query(req: falcon.Request, kind: type[msgspec.Struct]) -> msgspec.Struct:
    wanted = _fields(kind)
    values: dict[str, Any] = {}
    errors = [_unknown(name) for name in req.params if name not in wanted]
    for name, field in wanted.items():
        if name not in req.params:
            if field.required:
                errors.append(FieldError(field=name, detail="is required"))
            continue
        try:
            values[field.name] = _convert(req.params[name], field.type)
        except msgspec.ValidationError as error:
            errors.append(FieldError(field=name, detail=field_error(error).detail))
    if errors:
        raise InvalidParameter.of(errors)
    try:
        return kind(**values)
    except ValueError as error:
        raise InvalidParameter.of([FieldError(field="", detail=str(error))]) from None


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return the parameters by name; cached, as this takes longer than parsing them."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _unknown(name: str) -> FieldError:
    return FieldError(field=name[:MOST_TOLD_CHARS], detail="unknown parameter")


@functools.cache
def _reading(kind: Any) -> tuple[Any, bool]:
    """Return the type to convert a parameter to, and whether conversion is strict as in JSON."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        # A parameter is never null: ``null`` is a string like any other.
        rest = [each for each in get_args(kind) if each is not types.NoneType]
        kind = functools.reduce(operator.or_, rest)
    # Otherwise a number would be accepted as a time, in seconds since 1970.
    return kind, _has_time(kind)


def _has_time(kind: Any) -> bool:
    return kind is datetime or any(_has_time(part) for part in get_args(kind))


def _words_and_numbers(kind: Any) -> str:
    """Return which values a parameter may have that is either a word or an integer, else ``""``."""
    found = msgspec.inspect.type_info(kind)
    match getattr(found, "types", ()):
        case (msgspec.inspect.LiteralType(values=words), msgspec.inspect.IntType(ge=ge, le=le)):
            return f"must be {', '.join(map(str, words))} or an integer from {ge} to {le}"
    return ""


def _convert(given: str | list[str], kind: Any) -> Any:
    """Convert a parameter: strings to numbers, and a single value to a list."""
    if any("\x00" in each for each in ([given] if isinstance(given, str) else given)):
        raise RefusedValue(_NO_NUL)
    kind, strict = _reading(kind)
    if isinstance(given, list):
        try:
            return typed.convert(given, kind, strict=strict)
        except msgspec.ValidationError as error:
            if "got `array`" not in str(error):
                raise
            raise RefusedValue("must be given only once") from None
    # A plus sign in a query means a space; in numbers and times a literal plus was meant.
    readings = (given, given.strip(" +"), given.replace(" ", "+"), [given])
    errors = []
    for reading in readings:
        try:
            return typed.convert(reading, kind, strict=strict)
        except msgspec.ValidationError as error:
            errors.append(error)
    allowed = _words_and_numbers(kind)
    if allowed:
        raise RefusedValue(allowed)
    # For a list, report the error of the item.
    raise errors[-1 if "Expected `array" in str(errors[0]) else 0]


def body_of(req: falcon.Request, kind: type[T]) -> T:
    """Parse the JSON body of a request; an empty body counts as ``{}``.

    A body that may be larger than `MOST_BODY_BYTES` is read by `services.http.json_pieces`.

    Raises
    ------
    BodyTooLarge, InvalidBody, UnsupportedMediaType
    """
    # The stream ends at the announced length, so an oversized body is never held in memory.
    if (req.content_length or 0) > MOST_BODY_BYTES:
        discard(req)
        raise BodyTooLarge(f"the JSON body must have at most {MOST_BODY_BYTES} bytes")
    body = req.bounded_stream.read()
    if body and (media_type_of(req) or falcon.MEDIA_JSON) != falcon.MEDIA_JSON:
        raise UnsupportedMediaType(f"the body must be {falcon.MEDIA_JSON}")
    return json_of(body or b"{}", kind, refusal=InvalidBody)


def json_of(data: bytes, kind: type[T], *, refusal: type[InvalidFields]) -> T:
    """Decode JSON; raises ``refusal``, which names the invalid field."""
    try:
        found = typed.decode(data, kind)
        # The full search is needed only if the escape occurs at all.
        has_nul = rb"\u0000" in data and _has_nul(typed.decode(data, Any))
    except msgspec.ValidationError as error:
        raise refusal.of([field_error(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal.of([FieldError(field="", detail=no_json(error))]) from None
    if has_nul:
        raise refusal.of([FieldError(field="", detail=_NO_NUL)])
    return found


def _has_nul(value: Any) -> bool:
    """Return whether any string in a value contains U+0000, which Postgres cannot store."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(each) for name, each in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def check(routes: Mapping[str, object]) -> None:
    """Check that every responder of every route has an operation; raises :class:`TypeError`."""
    for resource in routes.values():
        operations(resource)
