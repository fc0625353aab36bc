"""The objects of an OpenAPI document, named as in its specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

#: A JSON Schema, as far as the API uses it.
SchemaObject = TypedDict(
    "SchemaObject",
    {
        "$ref": str,
        "type": str,
        "title": str,
        "description": str,
        "format": str,
        "pattern": str,
        "enum": list[str | int],
        "const": str,
        "default": object,
        "examples": list[object],
        "minimum": float,
        "maximum": float,
        "exclusiveMinimum": float,
        "minLength": int,
        "maxLength": int,
        "minItems": int,
        "maxItems": int,
        "contentEncoding": str,
        "contentMediaType": str,
        "properties": "dict[str, SchemaObject]",
        "required": list[str],
        "additionalProperties": "SchemaObject | bool",
        "items": "SchemaObject",
        "prefixItems": "list[SchemaObject]",
        "anyOf": "list[SchemaObject]",
    },
    total=False,
)

#: A reference to a component.
ReferenceObject = TypedDict("ReferenceObject", {"$ref": str})

ParameterObject = TypedDict(
    "ParameterObject",
    {
        "name": str,
        "in": str,
        "required": NotRequired[bool],
        "description": NotRequired[str],
        "schema": SchemaObject,
        "example": NotRequired[object],
    },
)


class HeaderObject(TypedDict):
    """A header of a response."""

    description: str
    required: NotRequired[bool]
    schema: SchemaObject
    example: NotRequired[str]


class ExampleObject(TypedDict):
    """An example of a problem."""

    summary: str
    value: Mapping[str, object]


class MediaTypeObject(TypedDict):
    """The schema and the examples of a body with one media type."""

    schema: SchemaObject
    example: NotRequired[object]
    examples: NotRequired[dict[str, ReferenceObject]]


class RequestBodyObject(TypedDict):
    """The body of a request, by media type."""

    required: bool
    content: dict[str, MediaTypeObject]


class ResponseObject(TypedDict):
    """A response with one status."""

    headers: dict[str, ReferenceObject]
    content: NotRequired[dict[str, MediaTypeObject]]
    description: NotRequired[str]


class OperationRequest(TypedDict):
    """The part of an operation that describes its request."""

    operationId: str
    summary: str
    description: str
    tags: list[str]
    security: list[dict[str, list[str]]]
    parameters: NotRequired[list[ParameterObject]]
    requestBody: NotRequired[RequestBodyObject]


class OperationObject(OperationRequest):
    """One method of a path."""

    responses: dict[str, ResponseObject]


class TagObject(TypedDict):
    """A group of operations."""

    name: str
    description: str


class InfoObject(TypedDict):
    """The title, version and license of the API."""

    title: str
    version: str
    description: str
    license: dict[str, str]


class ComponentsObject(TypedDict):
    """The objects that operations refer to, by name."""

    schemas: dict[str, SchemaObject]
    examples: dict[str, ExampleObject]
    headers: dict[str, HeaderObject]
    securitySchemes: dict[str, dict[str, str]]


class DocumentObject(TypedDict):
    """The whole document."""

    openapi: str
    info: InfoObject
    servers: list[dict[str, str]]
    tags: list[TagObject]
    #: By path and method.
    paths: dict[str, dict[str, OperationObject]]
    components: ComponentsObject
