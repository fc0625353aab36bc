"""The OpenAPI 3.1 document of the API, and ``GET /openapi.json``.

It is generated from the route table and the `Operation` of each responder
(:mod:`services.http.operations`), so it describes exactly the routes that are served. Texts come
from the docstrings of responders, structs and errors; examples from
:mod:`services.openapi.examples`.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib.metadata import version

import falcon
import msgspec

from services.http import responses
from services.http.deps import Deps
from services.http.operations import Operation, operation, operations
from services.http.problems import ProblemDetails
from services.http.resource import Resource
from services.openapi import json_schemas
from services.openapi.examples import EXAMPLES, PARAMETERS, Example
from services.openapi.json_schemas import BINARY, prose
from services.openapi.objects import (
    ComponentsObject,
    DocumentObject,
    MediaTypeObject,
    OperationObject,
    OperationRequest,
    ParameterObject,
    RequestBodyObject,
    SchemaObject,
)
from services.openapi.responses import problem_example, problems_of, ref, responses_of
from services.openapi.words import (
    ACCEPT_LANGUAGE,
    CONDITIONS,
    DESCRIPTION,
    DOCUMENTATION,
    HEADERS,
    IDEMPOTENCY_KEY,
    TAGS,
)

OPENAPI = "3.1.0"
#: Schemas of path parameters by Falcon converter; without one it is a string.
CONVERTERS: dict[str, SchemaObject] = {
    "uuid": {"type": "string", "format": "uuid"},
    "int": {"type": "integer"},
    "": {"type": "string"},
}
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Document(Resource):
    """``GET /openapi.json``. The document is generated at the first request."""

    def __init__(self, deps: Deps, routes: Mapping[str, object]) -> None:
        super().__init__(deps)
        self._routes = routes

    @functools.cached_property
    def content(self) -> DocumentObject:
        """The document, generated once."""
        return document(self._routes)

    @functools.cached_property
    def _encoded(self) -> bytes:
        return msgspec.json.encode(self.content)

    @operation(scope=None, also={304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Return this OpenAPI document."""
        responses.published(req, resp, self._encoded, media_type=falcon.MEDIA_JSON)


def document(routes: Mapping[str, object]) -> DocumentObject:
    """Return the OpenAPI document of a route table."""
    promises = [
        (template, resource, method, promise)
        for template, resource in routes.items()
        for method, promise in operations(resource).items()
        if promise.is_described
    ]
    writer = _Writer([promise for *_, promise in promises])
    paths: dict[str, dict[str, OperationObject]] = defaultdict(dict)
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

    def components(self) -> ComponentsObject:
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
    ) -> OperationObject:
        """Return an operation of a path."""
        example = EXAMPLES.get(f"{method} {template}", Example())
        summary, _, more = prose(docstring).partition("\n\n")
        first, stop, rest = summary.partition(". ")
        described = [part for part in (rest, more, _needs(promise)) if part]
        written: OperationRequest = {
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
        return {**written, "responses": responses_of(promise, example)}

    def _query(self, promise: Operation, example: Example) -> Iterator[ParameterObject]:
        if promise.query is None:
            return
        inline = self._inline[promise.query.__name__]
        for schema, is_required, name in json_schemas.fields_of(promise.query, schema=inline):
            described = schema.pop("description", "")
            parameter: ParameterObject = {
                "name": name,
                "in": "query",
                "required": is_required,
                "description": described,
                "schema": schema,
            }
            if name in example.query:
                parameter["example"] = example.query[name]
            yield parameter

    def _body(self, promise: Operation, example: Example) -> RequestBodyObject | None:
        content: dict[str, MediaTypeObject] = {}
        needed = bool(promise.takes) and not promise.bodiless
        if promise.body is not None:
            content[falcon.MEDIA_JSON] = {"schema": ref(promise.body)}
            needed |= any(field.required for field in msgspec.structs.fields(promise.body))
            if example.request is not None:
                content[falcon.MEDIA_JSON]["example"] = example.request
        for media, kind in promise.takes.items():
            content[media] = {"schema": BINARY if kind is None else self._form(kind)}
            if kind is not None and example.form is not None:
                content[media]["example"] = example.form
        return {"required": needed, "content": content} if content else None

    def _form(self, kind: type[msgspec.Struct]) -> SchemaObject:
        whole = self._inline[kind.__name__]
        fields = list(json_schemas.fields_of(kind, schema=whole))
        return {
            "type": "object",
            "description": whole["description"],
            "properties": {name: schema for schema, _, name in fields},
            "required": [name for _, is_required, name in fields if is_required],
        }


def _path_parameters(template: str) -> Iterator[ParameterObject]:
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
