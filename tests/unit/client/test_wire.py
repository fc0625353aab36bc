"""The client's structs agree with the OpenAPI document, so that neither changes alone."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from db.tables import sessions as tables
from services.cli.actions.openapi import unconnected_routes
from services.client import wire
from services.client.wire import sessions
from services.openapi import document as openapi
from services.openapi import json_schemas

Schema = dict[str, Any]


def structs() -> Iterator[type[msgspec.Struct]]:
    """Yield the structs that the client defines."""
    for module in pkgutil.iter_modules(wire.__path__, f"{wire.__name__}."):
        for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, msgspec.Struct) and kind.__module__ == module.name:
                yield kind


#: What all tasks share has no schema, and the interval of a problem is any object there.
WITHOUT_A_SCHEMA = {"AsyncTask", "Missing"}
KINDS = {kind.__name__: kind for kind in structs() if kind.__name__ not in WITHOUT_A_SCHEMA}


def schemas(kinds: Sequence[type[msgspec.Struct]]) -> dict[str, Schema]:
    """Return the schemas of structs by name, with times as the document writes them."""
    _, found = msgspec.json.schema_components(
        kinds, ref_template=json_schemas.REF, schema_hook=lambda _object: {"title": "anything"}
    )
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            json_schemas.add_format(
                found[kind.__name__]["properties"][field.encode_name], field.type
            )
    return found


OURS = schemas(list(KINDS.values()))


@pytest.fixture(scope="module")
def theirs() -> Schema:
    with unconnected_routes() as routes:
        return dict(openapi.document(routes)["components"]["schemas"])


def shape(schema: Any) -> Any:
    """Return the types of a schema, without descriptions and the bounds that the server checks."""
    if isinstance(schema, list):
        return sorted(map(shape, schema), key=repr)
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema:
        return {"type": "string"}
    if schema.get("$ref", "").endswith("/Missing"):
        return {"type": "object"}
    kept = {name: schema[name] for name in ("type", "format", "$ref") if name in schema}
    kept |= {name: shape(schema[name]) for name in ("items", "anyOf") if name in schema}
    # msgspec leaves out the values of `dict[str, Any]`.
    if values := shape(schema.get("additionalProperties")):
        kept["values"] = values
    return kept


def fields(schema: Schema) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field, and whether it is always there."""
    return {
        name: (shape(told), name in schema.get("required", ()))
        for name, told in schema["properties"].items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_struct_has_the_fields_of_its_schema(name: str, theirs: Schema) -> None:
    assert fields(OURS[name]) == fields(theirs[name])
    # `--json` prints them in this order.
    assert list(OURS[name]["properties"]) == list(theirs[name]["properties"])


def test_a_difference_is_found() -> None:
    class Other(msgspec.Struct):
        id: str
        percent: int | None
        stage: str = ""

    class Same(msgspec.Struct):
        id: str
        percent: int
        stage: str

    found = schemas([Other, Same])
    other, same = fields(found["Other"]), fields(found["Same"])
    assert {name for name in same if same[name] != other[name]} == {"percent", "stage"}


def test_the_client_waits_for_sessions_in_the_states_of_the_server() -> None:
    assert sessions.UNFINISHED_STATES == tables.UNFINISHED_STATES
