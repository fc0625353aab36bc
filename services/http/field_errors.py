"""Translate validation errors of msgspec into messages for callers.

A message says what to send, without the library's terms. A message of msgspec that is not listed
here becomes "this value is not allowed".
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from services.http.errors import FieldError

#: Types of values by msgspec's names.
_KINDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a time with a UTC offset, such as 2026-01-31T12:00:00Z",
    "date": "a date, such as 2026-01-31",
    "bytes": "base64-encoded bytes",
}
_UNITS = {
    "str": ("character", "characters"),
    "array": ("item", "items"),
    "object": ("key", "keys"),
    "bytes": ("byte", "bytes"),
}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
#: At most this many characters of the caller's input are repeated in a message.
MOST_TOLD_CHARS = 100
_OTHER = "this value is not allowed"


class RefusedValue(msgspec.ValidationError):
    """An invalid value with a message that is ready for the caller."""


def _kinds(names: str) -> str:
    """Return the allowed types in words, for example for ``int | null``."""
    return " or ".join(_KINDS.get(name, "another value") for name in names.split(" | "))


def _of_kind(found: re.Match[str]) -> str:
    if found["found"] is None or found["found"] not in _KINDS:
        return f"must be {_kinds(found['wanted'])}"
    return f"must be {_kinds(found['wanted'])}, not {_kinds(found['found'])}"


def _of_length(found: re.Match[str]) -> str:
    unit = _UNITS.get(found["wanted"], _UNITS["array"])[found["limit"] != "1"]
    return f"must have {_BOUNDS[found['bound']]} {found['limit']} {unit}"


def _of_size(found: re.Match[str]) -> str:
    return f"must be {_kinds(found['wanted'])}, {_BOUNDS[found['bound']]} {found['limit']}"


#: The reason and the path in a message of msgspec.
_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>[^`]*)`)?", re.DOTALL)
#: Patterns of msgspec's messages and the replacements.
_WORDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), words)
    for pattern, words in (
        (r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<found>[^`]+)`)?", _of_kind),
        (r"Expected `(?P<wanted>\w+)` of length (?P<bound>[<>]=) (?P<limit>\d+)", _of_length),
        (r"Expected `(?P<wanted>\w+)` (?P<bound>[<>]=?) (?P<limit>[-+.\de]+)", _of_size),
        (
            r"Expected `array` of (?:at (?:least|most) )?length .*",
            lambda _: "has too many or too few items",
        ),
        (
            r"Expected `str` matching regex .*",
            lambda _: "does not have the required format; `/docs` gives the pattern",
        ),
        (
            r"Expected `datetime` with a timezone component|Invalid RFC3339 encoded datetime",
            lambda _: f"must be {_KINDS['datetime']}",
        ),
        (r"Invalid RFC3339 encoded date", lambda _: f"must be {_KINDS['date']}"),
        (r"Invalid UUID", lambda _: f"must be {_KINDS['uuid']}"),
        (r"Invalid base64 encoded string", lambda _: f"must be {_KINDS['bytes']}"),
        (
            r"Invalid (?:enum )?value (?P<given>.*)",
            lambda found: (
                f"{found['given'][:MOST_TOLD_CHARS]} is not an allowed value; `/docs` lists them"
            ),
        ),
        (r".*out of range", lambda _: "is out of range"),
        (
            r"Object missing required field `(?P<name>[^`]*)`",
            lambda found: f"'{found['name']}' is required",
        ),
        (
            r"Object contains unknown field `(?P<name>.*)`",
            lambda found: f"unknown field '{found['name'][:MOST_TOLD_CHARS]}'",
        ),
    )
)


def field_error(error: msgspec.ValidationError) -> FieldError:
    """Return the path of the invalid value (``a.b[1]``; empty for the body) and the reason."""
    found = _MESSAGE.fullmatch(str(error))
    assert found is not None
    # A check in a struct raises ValueError with its own message, which msgspec passes on.
    is_ours = isinstance(error, RefusedValue) or isinstance(error.__cause__, ValueError)
    return FieldError(
        field=(found["place"] or "").removeprefix("."),
        detail=found["what"] if is_ours else words_of(found["what"]),
    )


def words_of(message: str) -> str:
    """Return the message for callers that replaces one of msgspec."""
    for pattern, words in _WORDS:
        found = pattern.fullmatch(message)
        if found is not None:
            return words(found)
    return _OTHER


def no_json(error: Exception) -> str:
    """Return the message for malformed JSON, with the position if it is known."""
    place = re.search(r"\(byte (\d+)\)$", str(error))
    if place is not None:
        return f"malformed JSON at byte {place[1]}"
    if "truncated" in str(error):
        return "malformed JSON: it ends too early"
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    return "must be JSON in UTF-8"
