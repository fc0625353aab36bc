"""What an endpoint promises: who may call it, what it takes, and what it answers.

Each responder bears an :func:`operation`. Access is decided by it, parameters and bodies are read
by it, and the OpenAPI document is written from it, so that none of them can disagree. An
application that has a responder without one is not built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import falcon
import msgspec

from services.errors import (
    BodyTooLarge,
    FieldError,
    InvalidBody,
    InvalidParameter,
    ServiceError,
    UnsupportedMediaType,
)

T = TypeVar("T", bound=msgspec.Struct)
Responder = TypeVar("Responder", bound=Callable[..., Any])

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
#: Bytes of a JSON body, unless an operation takes more.
MOST_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The promise of one responder."""

    #: What a key must be allowed (``db.account_models.SCOPES``); None if no key is asked for.
    scope: str | None
    #: The query's parameters; None if there are none.
    query: type[msgspec.Struct] | None = None
    #: The JSON body; None if there is none, or if it is no JSON.
    body: type[msgspec.Struct] | None = None
    #: The JSON answer; None if there is none, or if it is no JSON.
    answer: type[msgspec.Struct] | None = None
    #: What kind of answer it is.
    media: str = falcon.MEDIA_JSON
    status: int = 200
    #: What may go wrong beside what may go wrong everywhere.
    problems: tuple[type[ServiceError], ...] = ()
    #: Whether the answer shows a secret, which is kept nowhere.
    secret: bool = False


def operation(*, scope: str | None, **promise: Any) -> Callable[[Responder], Responder]:
    """Give a responder its :class:`Operation`."""

    def give(responder: Responder) -> Responder:
        responder.operation = Operation(scope=scope, **promise)  # type: ignore[attr-defined]
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
        if not hasattr(responder, "operation"):
            raise TypeError(f"{type(resource).__name__}.on_{method.lower()} has no @operation")
        found[method] = responder.operation
    return found


def operation_of(req: falcon.Request, resource: object) -> Operation | None:
    """The promise that a request calls on; None where the method is not allowed."""
    responder = getattr(resource, f"on_{req.method.lower()}", None)
    return getattr(responder, "operation", None)


def query_of(req: falcon.Request, kind: type[T]) -> T:
    """The query of a request; raises :class:`InvalidParameter`, which names each bad parameter."""
    wanted = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    errors = [
        FieldError(field=name, detail="there is no such parameter")
        for name in req.params
        if name not in wanted
    ]
    for name, field in wanted.items():
        if name not in req.params:
            if field.required:
                errors.append(FieldError(field=name, detail="it must be given"))
            continue
        try:
            values[field.name] = _convert(req.params[name], field.type)
        except msgspec.ValidationError as error:
            errors.append(FieldError(field=name, detail=_told(error)))
    if errors:
        raise InvalidParameter.of(errors)
    try:
        return kind(**values)
    except ValueError as error:
        raise InvalidParameter(str(error)) from None


def _convert(given: str | list[str], kind: Any) -> Any:
    """A parameter as it is wanted: text becomes numbers, and one value a list of one."""
    if isinstance(given, list):
        try:
            return msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError:
            raise msgspec.ValidationError("it must be given once") from None
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        try:
            return msgspec.convert([given], kind, strict=False)
        except msgspec.ValidationError:
            raise error from None


def body_of(req: falcon.Request, kind: type[T], *, most_bytes: int = MOST_BODY_BYTES) -> T:
    """The JSON body of a request; an empty one is ``{}``.

    Raises
    ------
    BodyTooLarge, InvalidBody, UnsupportedMediaType
    """
    body = req.bounded_stream.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise BodyTooLarge(f"at most {most_bytes} bytes of JSON are taken")
    media_type = (req.content_type or falcon.MEDIA_JSON).partition(";")[0].strip().lower()
    if body and media_type != falcon.MEDIA_JSON:
        raise UnsupportedMediaType(f"the body must be {falcon.MEDIA_JSON}")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise InvalidBody.of([FieldError(field=_place(error), detail=_told(error))]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidBody(f"the body is no JSON: {error}") from None


def _told(error: msgspec.ValidationError) -> str:
    """What msgspec says is wrong, without where."""
    return str(error).partition(" - at `")[0]


def _place(error: msgspec.ValidationError) -> str:
    """Where msgspec says that something is wrong: ``a.b[1]``, or nothing for the body itself."""
    place = str(error).partition(" - at `")[2].rstrip("`")
    return place.removeprefix("$").removeprefix(".")


def check(routes: Mapping[str, object]) -> None:
    """Look that every responder of every route makes its promise; raises :class:`TypeError`."""
    for resource in routes.values():
        operations(resource)
