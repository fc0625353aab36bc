"""What an endpoint promises: who may call it, what it takes, and what it answers.

Each responder bears an :func:`operation`. Access is decided by it, parameters and bodies are read
by it, and the OpenAPI document is written from it, so that none of them can disagree. An
application that has a responder without one is not built.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, Union, get_args, get_origin

import falcon
import msgspec

from services.http.bodies import discard, media_type_of
from services.http.errors import (
    BodyTooLarge,
    FieldError,
    InvalidBody,
    InvalidFields,
    InvalidParameter,
    ServiceError,
    UnknownRoute,
    UnsupportedMediaType,
)
from services.http.field_errors import MOST_TOLD_CHARS, Refused, field_error, no_json

T = TypeVar("T", bound=msgspec.Struct)
Responder = TypeVar("Responder", bound=Callable[..., Any])

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: Bytes of a JSON body, unless an operation takes more.
MOST_BODY_BYTES = 64 * 1024
#: A string of JSON.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
#: Postgres can keep every text but one with this character.
_NO_NUL = "it has the character U+0000, which no text may have"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The promise of one responder."""

    #: What a key must be allowed (``db.tables.accounts.SCOPES``); None if no key is asked for.
    scope: str | None
    #: The query's parameters; None if there are none. No others are taken.
    query: type[msgspec.Struct] | None = None
    #: The JSON body; None if there is none, or if it is no JSON.
    body: type[msgspec.Struct] | None = None
    #: What it takes that is no JSON, by media type: what describes the fields of a form (files are
    #: ``bytes``), or None for bytes as they are.
    takes: Mapping[str, type[msgspec.Struct] | None] = dataclasses.field(default_factory=dict)
    #: Whether it may be called without any body, too.
    bodiless: bool = False
    #: The JSON answer; None if there is none, or if it is no JSON.
    answer: type[msgspec.Struct] | None = None
    #: What kind of answer it is.
    media: str = falcon.MEDIA_JSON
    status: int = 200
    #: Answers of other statuses that are no problems: the JSON, bytes of the same kind, or None for
    #: one without a body.
    also: Mapping[int, type[msgspec.Struct] | type[bytes] | None] = dataclasses.field(
        default_factory=dict
    )
    #: What may go wrong beside what may go wrong everywhere.
    problems: tuple[type[ServiceError], ...] = ()
    #: Whether the answer shows a secret, which is kept nowhere.
    secret: bool = False
    #: Whether it makes recordings be analysed, which the caller's quota may not allow any more.
    takes_audio: bool = False
    #: Whether its texts are in the language that the header ``Accept-Language`` prefers.
    is_translated: bool = False
    #: Whether it is part of the API, and so of its OpenAPI document; a page that uses the API as
    #: any client does is not.
    is_described: bool = True
    #: Whether any parameters are taken: they are for a page's own script, and not read here.
    any_query: bool = False
    #: Whether an ``Idempotency-Key`` is looked at: with every POST of a caller that is known.
    keyed: bool = False


def operation(*, scope: str | None, **promise: Any) -> Callable[[Responder], Responder]:
    """Give a responder its :class:`Operation`."""

    def give(responder: Responder) -> Responder:
        keyed = responder.__name__ == "on_post" and scope is not None
        made = Operation(scope=scope, keyed=keyed, **promise)
        responder.operation = made  # type: ignore[attr-defined]
        return responder

    return give


def operations(resource: object) -> dict[str, Operation]:
    """The promises of a resource by method.

    Raises
    ------
    TypeError
        If a responder makes none.
    """
    found = {}
    for method in METHODS:
        responder = getattr(resource, f"on_{method.lower()}", None)
        if responder is None:
            continue
        if method == "HEAD" and responder == getattr(resource, "on_get", None):
            # The same without the body, as HTTP has it: no promise of its own.
            continue
        if not hasattr(responder, "operation"):
            raise TypeError(f"{type(resource).__name__}.on_{method.lower()} has no @operation")
        found[method] = responder.operation
    return found


def operation_of(req: falcon.Request, resource: object) -> Operation | None:
    """The promise that a request calls on; None where the method is not allowed."""
    responder = getattr(resource, f"on_{req.method.lower()}", None)
    return getattr(responder, "operation", None)


class Parameters:
    """Middleware: no responder runs before its path and query are what its operation promises.

    Here and nowhere else: so no endpoint passes over a parameter that it does not know.
    """

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Read the query; raises :class:`InvalidParameter`, which names each bad parameter."""
        # No text of the database's has this character, so nothing has such an id.
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
    """The query of a request, which must be the ``query`` of the responder's operation."""
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
                errors.append(FieldError(field=name, detail="it must be given"))
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
    """The parameters by name; to find them takes longer than to read them."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _unknown(name: str) -> FieldError:
    return FieldError(field=name[:MOST_TOLD_CHARS], detail="there is no such parameter")


@functools.cache
def _reading(kind: Any) -> tuple[Any, bool]:
    """As what a parameter is read, and whether only as it would stand in JSON."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        # What is given is never null: that would be a text like any other.
        rest = [each for each in get_args(kind) if each is not types.NoneType]
        kind = functools.reduce(operator.or_, rest)
    # Otherwise a number would be taken for a time, too: for seconds since 1970.
    return kind, _has_time(kind)


def _has_time(kind: Any) -> bool:
    return kind is datetime or any(_has_time(part) for part in get_args(kind))


def _convert(given: str | list[str], kind: Any) -> Any:
    """A parameter as it is wanted: text becomes numbers, and one value a list of one."""
    if any("\x00" in each for each in ([given] if isinstance(given, str) else given)):
        raise Refused(_NO_NUL)
    kind, strict = _reading(kind)
    if isinstance(given, list):
        try:
            return msgspec.convert(given, kind, strict=strict)
        except msgspec.ValidationError as error:
            if "got `array`" not in str(error):
                raise
            raise Refused("it must be given once") from None
    # A plus sign in a query stands for a space; in numbers and times it is clear what was meant.
    readings = (given, given.strip(" +"), given.replace(" ", "+"), [given])
    errors = []
    for reading in readings:
        try:
            return msgspec.convert(reading, kind, strict=strict)
        except msgspec.ValidationError as error:
            errors.append(error)
    # Where several may be given, it is the one in the list that is wrong.
    raise errors[-1 if "Expected `array" in str(errors[0]) else 0]


def body_of(
    req: falcon.Request,
    kind: type[T],
    *,
    most_bytes: int = MOST_BODY_BYTES,
    most_texts: int | None = None,
) -> T:
    """Return the JSON body of a request; an empty one is ``{}``.

    ``most_texts`` bounds the strings in a body that may be large: each takes 60 bytes of memory
    or more, however short it is, and the decoder checks the length of an array at its end only.

    Raises
    ------
    BodyTooLarge, InvalidBody, UnsupportedMediaType
    """
    # The stream ends at the announced length, so a body that is too large is never held.
    if (req.content_length or 0) > most_bytes:
        discard(req)
        raise BodyTooLarge(f"at most {most_bytes} bytes of JSON are taken")
    body = req.bounded_stream.read()
    if most_texts is not None and _has_more_texts(body, most_texts):
        raise BodyTooLarge(f"at most {most_texts} texts of JSON are taken")
    if body and (media_type_of(req) or falcon.MEDIA_JSON) != falcon.MEDIA_JSON:
        raise UnsupportedMediaType(f"the body must be {falcon.MEDIA_JSON}")
    return json_of(body or b"{}", kind, refusal=InvalidBody)


def _has_more_texts(data: bytes, most: int) -> bool:
    """Return whether JSON has more strings than ``most``, names of fields among them."""
    return any(True for _ in itertools.islice(_TEXT.finditer(data), most, None))


def json_of(data: bytes, kind: type[T], *, refusal: type[InvalidFields]) -> T:
    """What JSON says; raises ``refusal``, which names the field that is not as it must be."""
    try:
        found = msgspec.json.decode(data, type=kind)
        # The search goes through all of it, and is worth it only where the character may be.
        has_nul = rb"\u0000" in data and _has_nul(msgspec.json.decode(data))
    except msgspec.ValidationError as error:
        raise refusal.of([field_error(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal.of([FieldError(field="", detail=no_json(error))]) from None
    if has_nul:
        raise refusal.of([FieldError(field="", detail=_NO_NUL)])
    return found


def _has_nul(value: Any) -> bool:
    """Whether a text in this has the character that Postgres does not take."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(each) for name, each in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def check(routes: Mapping[str, object]) -> None:
    """Look that every responder of every route makes its promise; raises :class:`TypeError`."""
    for resource in routes.values():
        operations(resource)
