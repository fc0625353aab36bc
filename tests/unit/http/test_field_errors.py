"""Error messages for wrong values: Clamor's own wording, with the remedy."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.http.operations import json_of
from services.http.request_errors import InvalidBody


class Part(msgspec.Struct, forbid_unknown_fields=True):
    size: int = 0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("a size is never negative")


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)]
    level: Annotated[float, msgspec.Meta(ge=0, le=200)] | None = None
    code: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")] = "a"
    kind: Literal["high", "low"] = "low"
    parts: Annotated[list[Part], msgspec.Meta(max_length=2)] = []
    pair: tuple[int, int] = (0, 0)
    at: datetime | None = None
    id: uuid.UUID | None = None


@pytest.mark.parametrize(
    ("body", "field", "detail"),
    [
        ('{"name": 3}', "name", "must be a string, not an integer"),
        ('{"name": ""}', "name", "must have at least 1 character"),
        ('{"name": "a", "level": 300}', "level", "must be a number, at most 200.0"),
        ('{"name": "a", "level": "3"}', "level", "must be a number or null, not a string"),
        (
            '{"name": "a", "code": "A"}',
            "code",
            "does not have the required format; `/docs` gives the pattern",
        ),
        (
            '{"name": "a", "kind": "mid` - at `$.x`"}',
            "kind",
            "'mid` - at `$.x`' is not an allowed value; `/docs` lists them",
        ),
        ('{"name": "a", "parts": [{}, {}, {}]}', "parts", "must have at most 2 items"),
        ('{"name": "a", "parts": [{"size": -1}]}', "parts[0]", "a size is never negative"),
        ('{"name": "a", "pair": [1]}', "pair", "has too many or too few items"),
        (
            '{"name": "a", "at": "noon"}',
            "at",
            "must be a time with a UTC offset, such as 2026-01-31T12:00:00Z",
        ),
        ('{"name": "a", "id": "x"}', "id", "must be a UUID"),
        ("{}", "", "'name' is required"),
        ('{"name": "a", "colour": 1}', "", "unknown field 'colour'"),
        ("[]", "", "must be an object, not an array"),
        ('{"name": "a"', "", "malformed JSON: it ends too early"),
        ("{name}", "", "malformed JSON at byte 1"),
    ],
)
def test_each_fault_is_named_in_plain_words(body: str, field: str, detail: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        json_of(body.encode(), Whole, refusal=InvalidBody)
    (error,) = refused.value.extension["errors"]
    assert (error.field, error.detail) == (field, detail)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(
    st.dictionaries(st.sampled_from([*Whole.__struct_fields__, "other"]), _VALUES, max_size=4)
    | _VALUES
)
def test_no_term_of_the_library_is_left(body: object) -> None:
    data = msgspec.json.encode(body)
    try:
        json_of(data, Whole, refusal=InvalidBody)
    except InvalidBody as refused:
        for error in refused.extension["errors"]:
            assert "Expected `" not in error.detail
            assert "Object " not in error.detail
            assert "RFC3339" not in error.detail
