"""The description of the API: valid, complete, and with an example of everything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
import schemathesis

from services.cli.actions.openapi import unconnected_routes
from services.http import operations
from services.http.operations import Operation
from services.openapi import document as openapi
from services.openapi import json_schemas
from services.openapi.examples import EXAMPLES


@pytest.fixture(scope="module")
def routes() -> Iterator[dict[str, object]]:
    with unconnected_routes() as routes:
        yield routes


@pytest.fixture(scope="module")
def promises(routes: dict[str, object]) -> dict[str, Operation]:
    return {
        f"{method} {template}": promise
        for template, resource in routes.items()
        for method, promise in operations.operations(resource).items()
        if promise.is_described
    }


@pytest.fixture(scope="module")
def document(routes: dict[str, object]) -> dict[str, Any]:
    return dict(openapi.document(routes))


def written_operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for path in document["paths"].values() for each in path.values()]


def test_every_operation_has_an_example_and_every_example_an_operation(
    promises: dict[str, Operation],
) -> None:
    missing, left = promises.keys() - EXAMPLES.keys(), EXAMPLES.keys() - promises.keys()
    assert not missing, f"write their examples in services/examples: {sorted(missing)}"
    assert not left, f"no operation is exemplified by: {sorted(left)}"


def same(kind: Any, example: Any) -> None:
    """Check that an example has exactly the fields of its struct."""
    decoded = msgspec.json.decode(msgspec.json.encode(example), type=kind)
    assert json.loads(msgspec.json.encode(decoded)) == json.loads(json.dumps(example))


def test_every_example_is_what_its_structs_say(promises: dict[str, Operation]) -> None:
    for name, promise in promises.items():
        example = EXAMPLES[name]
        if promise.body is None:
            assert example.request is None, name
        else:
            assert example.request is not None, f"{name}: the body has no example"
            msgspec.convert(example.request, promise.body)
        if promise.answer is not None:
            assert example.answer is not None, f"{name}: the answer has no example"
            same(promise.answer, example.answer)
        elif promise.media.startswith("text/"):
            assert isinstance(example.answer, str), f"{name}: the answer has no example"
        if promise.query is None:
            assert not example.query, name
        else:
            msgspec.convert(example.query, promise.query)
        forms = [kind for kind in promise.takes.values() if kind is not None]
        fields = {field for kind in forms for field in kind.__struct_fields__}
        assert bool(example.form) == bool(forms), f"{name}: the form has no example"
        assert set(example.form or ()) <= fields, name


def test_an_example_that_lacks_a_field_or_has_another_is_found() -> None:
    class Answer(msgspec.Struct):
        level_db: float
        state: str = "new"

    same(Answer, {"level_db": 1.5, "state": "old"})
    for other in ({"level_db": 1.5}, {"level_db": 1.5, "state": "old", "more": 1}):
        with pytest.raises(AssertionError):
            same(Answer, other)
    with pytest.raises(msgspec.ValidationError):
        same(Answer, {"state": "old"})


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    names = [each["operationId"] for each in written_operations(document)]
    assert len(set(names)) == len(names)
    for pointer in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        place: Any = document
        for part in pointer.split("/"):
            place = place[part]


def test_every_operation_says_what_it_does_and_what_may_go_wrong(
    document: dict[str, Any], promises: dict[str, Operation]
) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for each in written_operations(document):
        assert each["summary"], each["operationId"]
        assert set(each["tags"]) <= tags
        assert ("401" in each["responses"]) == bool(each["security"])
        for status, response in each["responses"].items():
            assert "X-Request-ID" in response["headers"]
            assert int(status) < 400 or response["content"]
    named = set(document["components"]["examples"])
    for name, promise in promises.items():
        assert {problem.name for problem in promise.problems} <= named, name


def test_what_is_written_of_an_operation(document: dict[str, Any]) -> None:
    cancel = document["paths"]["/v1/sessions/{session_id}/cancel"]["post"]
    assert cancel["operationId"] == "post_session_cancel"
    assert cancel["summary"] == "Cancel a session"
    assert "changes nothing" in cancel["description"]
    assert cancel["security"] == [{"key": ["sessions:write"]}]
    (session_id,) = (each for each in cancel["parameters"] if each["in"] == "path")
    assert session_id["schema"] == {"type": "string", "format": "uuid"}
    refusal = cancel["responses"]["409"]["content"]["application/problem+json"]
    assert "already-finished" in refusal["examples"]

    upload = document["paths"]["/v1/sessions"]["post"]
    assert {"audio/*", "multipart/form-data"} <= upload["requestBody"]["content"].keys()
    assert "Location" in upload["responses"]["202"]["headers"]
    detections = document["paths"]["/v1/sessions/{session_id}/detections"]["get"]
    (limit,) = (each for each in detections["parameters"] if each["name"] == "limit")
    assert limit["schema"] | {"default": 0} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 0,
    }
    assert document["paths"]["/health/live"]["get"]["security"] == []


def test_words_come_from_docstrings_and_comments(document: dict[str, Any]) -> None:
    session = document["components"]["schemas"]["Session"]
    assert session["properties"]["priority"]["description"] == "high, normal or low."
    assert session["properties"]["created_at"]["format"] == "date-time"
    # For a base as for the struct itself.
    training = document["components"]["schemas"]["Training"]
    described = "The training of a model: `pending`, then `completed` or `failed`."
    assert training["description"] == described
    assert not re.search(r"``|:class:|\n---", json.dumps(document))


class Base(msgspec.Struct):
    #: How loud,
    #: in ``dB``.
    level_db: float
    plain: int = 0


class Derived(Base):
    """Says more.

    Raises
    ------
    Nothing
    """

    # No comment for readers of the API.
    other: int = 0
    #: Louder.
    level_db: Annotated[float, msgspec.Meta(ge=0)]


def test_comments_are_read_from_the_struct_and_its_bases() -> None:
    assert json_schemas.comments_of(Base) == {"level_db": "How loud, in `dB`."}
    assert json_schemas.comments_of(Derived) == {"level_db": "Louder."}
    assert json_schemas.prose(Derived.__doc__) == "Says more."


@pytest.mark.parametrize(
    ("template", "method", "name"),
    [
        ("/v1/sessions", "POST", "post_sessions"),
        ("/v1/batches/{batch_id:uuid}/items", "GET", "get_batch_items"),
        ("/v1/models/{model_id:uuid}/confusion.png", "GET", "get_model_confusion_png"),
        ("/openapi.json", "GET", "get_openapi_json"),
    ],
)
def test_operations_have_stable_names(template: str, method: str, name: str) -> None:
    assert openapi.operation_id(template, method) == name
