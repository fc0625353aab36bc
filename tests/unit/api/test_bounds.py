"""Everything that a request's body may repeat or lengthen has a bound."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from typing import Any

import falcon
import msgspec
import pytest
from falcon import testing
from msgspec import inspect

from services.api.models import manifests
from services.cli.actions.openapi import unconnected_routes
from services.http import operations
from services.http.bodies import MOST_TYPE_CHARS, media_type_of
from services.http.request_errors import BodyTooLarge, InvalidHeader


def body_kinds() -> dict[str, type[msgspec.Struct]]:
    """Return the types of all JSON and form bodies, by operation."""
    found: dict[str, type[msgspec.Struct]] = {}
    with unconnected_routes() as routes:
        for template, resource in routes.items():
            for method, promise in operations.operations(resource).items():
                for kind in (promise.body, *promise.takes.values()):
                    if kind is not None:
                        found[f"{method} {template}: {kind.__name__}"] = kind
    return found


BODIES = body_kinds()


def unbounded(kind: inspect.Type, place: str) -> Iterator[str]:
    """Yield where a type accepts a text, list or object of unlimited length."""
    match kind:
        case inspect.StrType(max_length=None) | inspect.AnyType() | inspect.RawType():
            yield place
        case (
            inspect.ListType(max_length=None)
            | inspect.SetType(max_length=None)
            | inspect.VarTupleType(max_length=None)
            | inspect.DictType(max_length=None)
        ):
            yield place
    for name, part in parts(kind):
        yield from unbounded(part, f"{place}{name}")


def parts(kind: inspect.Type) -> Iterator[tuple[str, inspect.Type]]:
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield f".{field.encode_name}", field.type
        case inspect.UnionType():
            for each in kind.types:
                yield "", each
        case inspect.ListType() | inspect.SetType() | inspect.VarTupleType():
            yield "[]", kind.item_type
        case inspect.DictType():
            yield "{}", kind.key_type
            yield "{}", kind.value_type


def test_there_are_bodies_to_look_at() -> None:
    assert len(BODIES) >= 16
    assert {kind.__name__ for kind in BODIES.values()} >= {"NamedRecordings", "Source", "NewExport"}


@pytest.mark.parametrize("name", BODIES)
def test_every_array_and_text_of_a_body_is_bounded(name: str) -> None:
    assert list(unbounded(inspect.type_info(BODIES[name]), "")) == []


def test_the_walk_finds_what_has_no_bound() -> None:
    class Loose(msgspec.Struct):
        names: list[str]
        rest: dict[str, Any]

    found = list(unbounded(inspect.type_info(Loose), ""))
    assert found == [".names", ".names[]", ".rest", ".rest{}", ".rest{}"]


class Words(msgspec.Struct):
    words: list[str]


def request(body: bytes, **headers: str) -> falcon.Request:
    return testing.create_req(method="POST", body=body, headers=headers)


def test_a_body_that_is_too_large_is_read_to_its_end_and_not_kept() -> None:
    req = request(b'{"words": ["' + b"a" * 2_000_000 + b'"]}')
    with pytest.raises(BodyTooLarge, match="65536 bytes"):
        operations.body_of(req, Words)
    assert req.bounded_stream.read() == b""


def test_a_media_type_has_a_bound() -> None:
    assert media_type_of(request(b"", **{"Content-Type": "Audio/WAV; rate=8000"})) == "audio/wav"
    assert media_type_of(request(b"")) == ""
    with pytest.raises(InvalidHeader, match=str(MOST_TYPE_CHARS)):
        media_type_of(request(b"", **{"Content-Type": "audio/wav;" + "a" * MOST_TYPE_CHARS}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"file,label\n" + b"a,b\n" * 500_000, "5000 lines"),
        (b"file,label" + b",c" * 500_000 + b"\na,b\n", "131072"),
        (b"file,label" + b",c" * 50_000 + b"\na,b\n", "20 columns"),
        (b"file,label\n" + b'a,"' + b"\n" * 500_000, "line breaks"),
        (b"file," + b"l" * 100_000 + b"\na,b\n", "columns file, l"),
    ],
    ids=["lines", "line", "columns", "breaks", "name"],
)
def test_a_manifest_takes_little_memory(data: bytes, told: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(manifests.ManifestError, match=told) as refused:
            manifests.parse_clips(io.BytesIO(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(refused.value)) < 1_000
    # The lines up to the bound, or a few copies of the longest one.
    assert peak < 12_000_000
