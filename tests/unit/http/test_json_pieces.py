"""The JSON of large bodies, read piece by piece."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from services.http import json_pieces
from services.http.json_pieces import Members
from services.http.request_errors import InvalidBody


class Dripping(io.BytesIO):
    """A stream whose reads return a few bytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 1, 1 + self.tell() % 7))


def collected(members: Iterable[tuple[str, int | None, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, index, value in members:
        if index is None:
            found[name] = value
        else:
            found.setdefault(name, []).append(value)
            assert len(found[name]) == index + 1
    return found


def random_object(generator: random.Random) -> dict[str, Any]:
    def scalar() -> Any:
        text = "".join(generator.choices('ab"\\,]}{[:\n ü\U0001f3a4', k=generator.randrange(9)))
        return generator.choice([text, None, True, -1.5e3, 7, text])

    return {
        f"{scalar()} {number}": generator.choice(
            [scalar(), [scalar() for _ in range(generator.randrange(5))]]
        )
        for number in range(generator.randrange(5))
    }


@pytest.mark.parametrize("seed", range(200))
def test_any_flat_object_is_read_as_by_a_parser_of_the_whole(seed: int) -> None:
    generator = random.Random(seed)
    given = random_object(generator)
    text = json.dumps(
        given, ensure_ascii=generator.random() < 0.5, indent=generator.choice([None, 2])
    )
    assert collected(Members(Dripping(text.encode()))) == given


@pytest.mark.parametrize("seed", range(100))
def test_what_a_parser_refuses_is_refused(seed: int) -> None:
    generator = random.Random(seed)
    text = bytearray(json.dumps(random_object(generator) | {"keys": ["a", "b"]}).encode())
    for _ in range(20):
        changed = text.copy()
        changed[generator.randrange(len(text))] = generator.choice(b'"\\,]}{[:x0 ')
        try:
            expected = msgspec.json.decode(changed)
            json.loads(changed, object_pairs_hook=_without_repetition)
        except ValueError:
            with pytest.raises(InvalidBody):
                collected(Members(Dripping(bytes(changed))))
            continue
        if isinstance(expected, dict) and not any(map(_is_nested, expected.values())):
            assert collected(Members(Dripping(bytes(changed)))) == expected


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _is_nested(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(each, (list, dict)) for each in items)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[]", "must be an object"),
        (b'{"a": [1, [2]]}', "'a\\[1\\]': must not be an array"),
        (b'{"a": {}}', "'a': must not be an array or an object"),
        (b'{"a": 1, "a": 2}', "'a': was given twice"),
        (b'{"a": ["x"', "ends too early"),
        (b'{"a": "x', "ends too early"),
        (b'{"a": 1} 2', "continues after its end"),
        (b'{"a": "' + b"x" * 100_000, "at most 8192 bytes"),
        (b" " * 100_000, "at most 8192 bytes"),
    ],
)
def test_an_error_says_what_is_wrong(body: bytes, told: str) -> None:
    with pytest.raises(InvalidBody, match=told):
        collected(Members(io.BytesIO(body)))


def test_only_what_is_asked_for_is_read() -> None:
    stream = io.BytesIO(b'{"keys": [' + b'"a",' * 1_000_000)
    for _, index, _ in Members(stream):
        if index == 10:
            break
    assert stream.tell() == json_pieces.PIECE_BYTES
