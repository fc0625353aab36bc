"""The OpenAPI 3.1 document of the API, and ``GET /openapi.json``.

It is generated from the route table and the `Operation` of each responder
(:mod:`services.http.operations`), so it describes exactly the routes that are served. Texts come
from the docstrings of responders, structs and errors; examples from
:mod:`services.openapi.examples`.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import falcon
import msgspec

from services.http import responses
from services.http.caller_errors import (
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    MissingScope,
    QuotaExceeded,
    RateLimited,
    RequestUnderWay,
    SecretNotShown,
    Unauthenticated,
)
from services.http.deps import Deps
from services.http.errors import ServiceError
from services.http.operations import Operation, operation, operations
from services.http.problems import PROBLEM_JSON, TYPES, ProblemDetails
from services.http.request_errors import (
    BodyTooLarge,
    InvalidBody,
    InvalidForm,
    InvalidHeader,
    InvalidParameter,
    UnsupportedMediaType,
)
from services.http.resource import Resource
from services.http.server_errors import InternalError, StoreUnavailable
from services.openapi import json_schemas
from services.openapi.examples import EXAMPLES, PARAMETERS, Example
from services.openapi.json_schemas import BINARY, REF, Schema, prose
from services.openapi.words import (
    ACCEPT_LANGUAGE,
    CONDITIONS,
    DESCRIPTION,
    DOCUMENTATION,
    HEADERS,
    HEADERS_OF,
    IDEMPOTENCY_KEY,
    LANGUAGE_HEADERS,
    RATE_HEADERS,
    TAGS,
)

OPENAPI = "3.1.0"
#: Schemas of path parameters by Falcon converter; without one it is a string.
CONVERTERS: dict[str, Schema] = {
    "uuid": {"type": "string", "format": "uuid"},
    "int": {"type": "integer"},
    "": {"type": "string"},
}
#: Statuses of answers with a Location header.
LOCATED = {201, 202, 303}
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Document(Resource):
    """``GET /openapi.json``. The document is generated at the first request."""

    def __init__(self, deps: Deps, routes: Mapping[str, object]) -> None:
        super().__init__(deps)
        self._routes = routes

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """The document, generated once."""
        return document(self._routes)

    @functools.cached_property
    def _encoded(self) -> bytes:
        return msgspec.json.encode(self.content)

    @operation(scope=None, also={304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return this OpenAPI document."""
        responses.published(req, resp, self._encoded, media_type=falcon.MEDIA_JSON)


def document(routes: Mapping[str, object]) -> dict[str, Any]:
    """Return the OpenAPI document of a route table."""
    promises = [
        (template, resource, method, promise)
        for template, resource in routes.items()
        for method, promise in operations(resource).items()
        if promise.is_described
    ]
    writer = _Writer([promise for *_, promise in promises])
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for template, resource, method, promise in promises:
        path = _PART.sub(r"{\1}", template)
        responder = getattr(resource, f"on_{method.lower()}")
        paths[path][method.lower()] = writer.operation(
            template, method, promise, docstring=responder.__doc__
        )
    tags = dict.fromkeys(tag_of(template) for template, *_ in promises)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Clamor",
            "version": version("clamor"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": TAGS[tag]} for tag in tags],
        "paths": dict(paths),
        "components": writer.components(),
    }


def tag_of(template: str) -> str:
    """Return the tag of a route: the first part of its path."""
    first = template.removeprefix("/v1").split("/")[1].partition(".")[0]
    return "documentation" if first in DOCUMENTATION else first


def operation_id(template: str, method: str) -> str:
    """Return the stable ID of an operation: ``post_session_cancel``.

    A part that is followed by an ID is written in the singular.
    """
    parts = (template.removeprefix("/v1").strip("/") or "index").split("/")
    words = [method.lower()]
    for part, behind in zip(parts, [*parts[1:], ""], strict=True):
        if not part.startswith("{"):
            words.append(_singular(part) if behind.startswith("{") else part)
    return re.sub(r"\W", "_", "_".join(words))


def _singular(word: str) -> str:
    for ending, singular in (("ies", "y"), ("ches", "ch"), ("s", "")):
        if word.endswith(ending):
            return word.removesuffix(ending) + singular
    return word


def problems_of(promise: Operation) -> list[type[ServiceError]]:
    """Return all problems that an operation may return, by status and name."""
    found: set[type[ServiceError]] = {InternalError, InvalidParameter, *promise.problems}
    if promise.scope is not None:
        found |= {Unauthenticated, MissingScope, RateLimited, StoreUnavailable}
    if promise.takes_audio:
        found.add(QuotaExceeded)
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


class _Writer:
    """Writes operations and collects the components that they refer to."""

    def __init__(self, promises: list[Operation]) -> None:
        kinds: dict[type[msgspec.Struct], None] = {ProblemDetails: None}
        inline: dict[type[msgspec.Struct], None] = {}
        for promise in promises:
            for wire in (promise.body, promise.answer, *promise.also.values()):
                if wire is not None and issubclass(wire, msgspec.Struct):
                    kinds[wire] = None
            given = (promise.query, *promise.takes.values())
            inline |= dict.fromkeys(kind for kind in given if kind is not None)
        self._schemas = json_schemas.components(list(kinds))
        # Queries and forms are inlined because they cannot contain null.
        self._inline = json_schemas.components(list(inline))
        self._problems = {kind.name: kind for each in promises for kind in problems_of(each)}

    def components(self) -> dict[str, Any]:
        """Return the components of the document."""
        return {
            "schemas": self._schemas,
            "examples": {
                name: {"summary": kind.title, "value": problem_example(kind)}
                for name, kind in sorted(self._problems.items())
            },
            "headers": HEADERS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `clamor_...`. Each operation names the scope that"
                    " the key needs; a key with the scope `admin` has all scopes.",
                }
            },
        }

    def operation(
        self, template: str, method: str, promise: Operation, *, docstring: str | None
    ) -> dict[str, Any]:
        """Return an operation of a path."""
        example = EXAMPLES.get(f"{method} {template}", Example())
        summary, _, more = prose(docstring).partition("\n\n")
        first, stop, rest = summary.partition(". ")
        described = [part for part in (rest, more, _needs(promise)) if part]
        written: dict[str, Any] = {
            "operationId": operation_id(template, method),
            "summary": first if stop else first.removesuffix("."),
            "description": "\n\n".join(described),
            "tags": [tag_of(template)],
            "security": [] if promise.scope is None else [{"key": [promise.scope]}],
        }
        parameters = [
            *_path_parameters(template),
            *self._query(promise, example),
            *(told for status, told in CONDITIONS.items() if status in promise.also),
            *([ACCEPT_LANGUAGE] if promise.is_translated else []),
            *([IDEMPOTENCY_KEY] if promise.keyed else []),
        ]
        if parameters:
            written["parameters"] = parameters
        body = self._body(promise, example)
        if body:
            written["requestBody"] = body
        written["responses"] = self._responses(promise, example)
        return written

    def _query(self, promise: Operation, example: Example) -> Iterator[dict[str, Any]]:
        if promise.query is None:
            return
        inline = self._inline[promise.query.__name__]
        for schema, is_required, name in json_schemas.fields_of(promise.query, schema=inline):
            described = schema.pop("description", "")
            parameter = {
                "name": name,
                "in": "query",
                "required": is_required,
                "description": described,
                "schema": schema,
            }
            if name in example.query:
                parameter["example"] = example.query[name]
            yield parameter

    def _body(self, promise: Operation, example: Example) -> dict[str, Any] | None:
        content: dict[str, Any] = {}
        needed = bool(promise.takes) and not promise.bodiless
        if promise.body is not None:
            content[falcon.MEDIA_JSON] = {"schema": _ref(promise.body)}
            needed |= any(field.required for field in msgspec.structs.fields(promise.body))
            if example.request is not None:
                content[falcon.MEDIA_JSON]["example"] = example.request
        for media, kind in promise.takes.items():
            content[media] = {"schema": BINARY if kind is None else self._form(kind)}
            if kind is not None and example.form is not None:
                content[media]["example"] = example.form
        return {"required": needed, "content": content} if content else None

    def _form(self, kind: type[msgspec.Struct]) -> Schema:
        whole = self._inline[kind.__name__]
        fields = list(json_schemas.fields_of(kind, schema=whole))
        return {
            "type": "object",
            "description": whole["description"],
            "properties": {name: schema for schema, _, name in fields},
            "required": [name for _, is_required, name in fields if is_required],
        }

    def _responses(self, promise: Operation, example: Example) -> dict[str, Any]:
        good: dict[str, Any] = {"headers": {}}
        if promise.status != HTTPStatus.NO_CONTENT:
            schema = _schema_of(promise.media, promise.answer)
            good["content"] = {promise.media: {"schema": schema}}
        if example.answer is not None:
            good["content"][promise.media]["example"] = example.answer
        if promise.keyed:
            replayed = {"$ref": "#/components/headers/Idempotent-Replayed"}
            good["headers"]["Idempotent-Replayed"] = replayed
        if promise.answer is not None and "next_cursor" in promise.answer.__struct_fields__:
            good["headers"]["Link"] = {"$ref": "#/components/headers/Link"}
        responses = {promise.status: good}
        for status, kind in promise.also.items():
            responses[status] = {"headers": {}}
            if kind is not None:
                schema = _schema_of(promise.media, kind)
                responses[status]["content"] = {promise.media: {"schema": schema}}
        for status in responses.keys() & LOCATED:
            responses[status]["headers"]["Location"] = {"$ref": "#/components/headers/Location"}
        if 304 in promise.also:
            for status in (promise.status, 304):
                responses[status]["headers"]["ETag"] = {"$ref": "#/components/headers/ETag"}
        if promise.is_translated:
            for name, response in itertools.product(LANGUAGE_HEADERS, responses.values()):
                response["headers"][name] = {"$ref": f"#/components/headers/{name}"}
        for status, written in _refusals(promise).items():
            # An operation may also define an answer of its own for the status, such as 503.
            known = responses.setdefault(status, {"headers": {}, "content": {}})
            known["headers"] |= written["headers"]
            known["content"] |= written["content"]
        for status, response in responses.items():
            if promise.scope is not None:
                for name in RATE_HEADERS:
                    response["headers"][name] = {"$ref": f"#/components/headers/{name}"}
            response.setdefault("description", HTTPStatus(status).phrase)
            response["headers"]["X-Request-ID"] = {"$ref": "#/components/headers/X-Request-ID"}
        return {str(status): responses[status] for status in sorted(responses)}


def _schema_of(media: str, kind: type[msgspec.Struct] | type[bytes] | None) -> Schema:
    if kind is not None and issubclass(kind, msgspec.Struct):
        return _ref(kind)
    if media == falcon.MEDIA_JSON:
        return {"type": "object"}
    if media == "text/event-stream":
        # OpenAPI 3.1 does not define whether a schema applies to the stream or to each event.
        return {}
    return {"type": "string"} if media.startswith("text/") else BINARY


def _refusals(promise: Operation) -> dict[int, dict[str, Any]]:
    """Return the problems of an operation as responses, by status."""
    by_status: dict[int, dict[str, Any]] = {}
    for kind in problems_of(promise):
        told = {"$ref": f"#/components/examples/{kind.name}"}
        written = by_status.setdefault(
            kind.status,
            {
                "headers": {
                    name: {"$ref": f"#/components/headers/{name}"}
                    for name, statuses in HEADERS_OF.items()
                    if kind.status in statuses
                },
                "content": {PROBLEM_JSON: {"schema": _ref(ProblemDetails), "examples": {}}},
            },
        )
        written["content"][PROBLEM_JSON]["examples"][kind.name] = told
    return by_status


def _path_parameters(template: str) -> Iterator[dict[str, Any]]:
    for name, converter in _PART.findall(template):
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": CONVERTERS[converter],
            "example": PARAMETERS[name],
        }


def _needs(promise: Operation) -> str:
    if promise.scope is None:
        return "No API key is needed."
    return f"Requires an API key with the scope `{promise.scope}`."


def problem_example(kind: type[ServiceError]) -> dict[str, Any]:
    """Return an example of a problem."""
    return {
        "type": TYPES + kind.name,
        "title": kind.title,
        "status": kind.status,
        "detail": prose(kind.__doc__).partition("\n\n")[0],
        "request_id": "0b5c7f9f3ee54f61a4d3a4b6d0f7c2de",
    }


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=kind.__name__)}
