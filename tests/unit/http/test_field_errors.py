"""Error messages for wrong values: Clamor's own wording, with the remedy.

They are in ``golden/field_errors.txt``, by the bodies that cause them.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.http.operations import json_of
from services.http.request_errors import InvalidBody
from tests.support import golden

SENTENCES = golden.read(Path(__file__).parent / "golden" / "field_errors.txt")


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


#: Invalid bodies and the fields at fault.
BODIES = {
    '{"name": 3}': "name",
    '{"name": ""}': "name",
    '{"name": "a", "level": 300}': "level",
    '{"name": "a", "level": "3"}': "level",
    '{"name": "a", "code": "A"}': "code",
    '{"name": "a", "kind": "mid` - at `$.x`"}': "kind",
    '{"name": "a", "parts": [{}, {}, {}]}': "parts",
    '{"name": "a", "parts": [{"size": -1}]}': "parts[0]",
    '{"name": "a", "pair": [1]}': "pair",
    '{"name": "a", "at": "noon"}': "at",
    '{"name": "a", "id": "x"}': "id",
    "{}": "",
    '{"name": "a", "colour": 1}': "",
    "[]": "",
    '{"name": "a"': "",
    "{name}": "",
}


@pytest.mark.parametrize("body", BODIES)
def test_each_fault_is_named_in_plain_words(body: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        json_of(body.encode(), Whole, refusal=InvalidBody)
    (error,) = refused.value.extension["errors"]
    assert (error.field, error.detail) == (BODIES[body], SENTENCES[body])


def test_no_sentence_is_without_a_case() -> None:
    assert SENTENCES.keys() == BODIES.keys()


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
