"""JSON Schemas of the structs of requests and answers, with the descriptions of their fields.

msgspec generates the schemas. It cannot see ``#:`` comments, so these are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import cast

import msgspec

from services.openapi.objects import SchemaObject

REF = "#/components/schemas/{name}"
#: A file, or raw bytes.
BINARY: SchemaObject = {"type": "string", "format": "binary"}

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
#: A numpy-style heading, after which a docstring is for readers of the code only.
_SECTION = re.compile(r"^\w[\w ]*\n-{3,}$", re.MULTILINE)


def prose(docstring: str | None) -> str:
    """Convert a docstring to Markdown for API users, without sections and roles for the code."""
    text = _SECTION.split(inspect.cleandoc(docstring or ""))[0]
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    # Line breaks only fit the source width; blank lines separate paragraphs.
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def components(kinds: Sequence[type[msgspec.Struct]]) -> dict[str, SchemaObject]:
    """Return the schemas of structs and of the structs that they contain, by name."""
    _, generated = msgspec.json.schema_components(kinds, ref_template=REF)
    # msgspec declares the schemas that it generates as dictionaries of any value.
    schemas = cast(dict[str, SchemaObject], generated)
    for kind in _with_parts(kinds):
        schema = schemas[kind.__name__]
        schema["description"] = prose(kind.__doc__)
        comments = comments_of(kind)
        for field in msgspec.structs.fields(kind):
            told = schema["properties"][field.encode_name]
            add_format(told, field.type)
            if field.name in comments and "description" not in told:
                schema["properties"][field.encode_name] = told | {
                    "description": comments[field.name]
                }
    return schemas


def fields_of(
    kind: type[msgspec.Struct], *, schema: SchemaObject
) -> Iterator[tuple[SchemaObject, bool, str]]:
    """Yield each field of a query or a form: its schema, whether it is required, and its name.

    Queries and forms cannot contain null: a value that is not set is left out.
    """
    for field in msgspec.structs.fields(kind):
        given = schema["properties"][field.encode_name].copy()
        options = [each for each in given.get("anyOf", ()) if each.get("type") != "null"]
        if len(options) == 1:
            del given["anyOf"]
            given |= options[0]
        elif options:
            given["anyOf"] = options
        if given.get("default", ...) is None:
            del given["default"]
        yield _file(given), field.required, field.encode_name


def comments_of(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the ``#:`` comments above the fields of a struct and its bases, by field name."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not issubclass(each, msgspec.Struct) or each is msgspec.Struct:
            continue
        source = textwrap.dedent(inspect.getsource(each))
        lines = source.splitlines()
        (definition,) = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for statement in definition.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                above = _above(lines, statement.lineno - 1)
                if above:
                    found[statement.target.id] = prose(above)
    return found


def _above(lines: Sequence[str], index: int) -> str:
    """Return the ``#:`` comment directly above a line."""
    first = index
    while first and lines[first - 1].lstrip().startswith("#:"):
        first -= 1
    return " ".join(line.lstrip().removeprefix("#:").strip() for line in lines[first:index])


def _with_parts(kinds: Sequence[type[msgspec.Struct]]) -> Iterator[type[msgspec.Struct]]:
    """Yield structs and the structs in their fields, each once."""
    waiting, seen = list(kinds), set()
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        yield kind
        for field in msgspec.structs.fields(kind):
            waiting += _structs_in(field.type)


def _structs_in(kind: object) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [each for part in getattr(kind, "__args__", ()) for each in _structs_in(part)]


def add_format(schema: SchemaObject, kind: object) -> None:
    """Set the format of times; msgspec sets it only for those that require a time zone."""
    if kind is datetime:
        schema["format"] = "date-time"
    elif datetime in getattr(kind, "__args__", ()):
        for option in schema.get("anyOf", ()):
            if option == {"type": "string"}:
                option["format"] = "date-time"


def _file(schema: SchemaObject) -> SchemaObject:
    """Adapt a field of a form: msgspec describes bytes as base64, but files are sent raw."""
    if schema.pop("contentEncoding", None):
        schema |= BINARY
    if "items" in schema:
        schema["items"] = _file(schema["items"].copy())
    return schema
