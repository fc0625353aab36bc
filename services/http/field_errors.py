"""Say in Clamor's own words what the JSON reader finds wrong, and where.

A caller reads what to send instead, not the terms of a library: a message that is not known here
becomes a plain "it has a value that this field does not take".
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from services.http.errors import FieldError

#: The kinds of value, by msgspec's names for them.
_KINDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
    "uuid": "a UUID",
    "datetime": "a time with its offset from UTC, such as 2026-01-31T12:00:00Z",
    "date": "a date, such as 2026-01-31",
    "bytes": "bytes in base64",
}
_UNITS = {
    "str": ("character", "characters"),
    "array": ("entry", "entries"),
    "object": ("name", "names"),
    "bytes": ("byte", "bytes"),
}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
#: Characters of a caller's own text that are repeated in a refusal.
MOST_TOLD_CHARS = 100
_OTHER = "it has a value that this field does not take"


class Refused(msgspec.ValidationError):
    """A value that is refused in words of our own."""


def _kinds(names: str) -> str:
    """Return the words for ``int | null``: what may be sent."""
    return " or ".join(_KINDS.get(name, "another value") for name in names.split(" | "))


def _of_kind(found: re.Match[str]) -> str:
    if found["found"] is None or found["found"] not in _KINDS:
        return f"it must be {_kinds(found['wanted'])}"
    return f"it must be {_kinds(found['wanted'])}, not {_kinds(found['found'])}"


def _of_length(found: re.Match[str]) -> str:
    unit = _UNITS.get(found["wanted"], _UNITS["array"])[found["limit"] != "1"]
    return f"it must have {_BOUNDS[found['bound']]} {found['limit']} {unit}"


def _of_size(found: re.Match[str]) -> str:
    return f"it must be {_kinds(found['wanted'])}, {_BOUNDS[found['bound']]} {found['limit']}"


#: What is wrong, and where, as msgspec writes them.
_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<place>[^`]*)`)?", re.DOTALL)
#: msgspec's messages, and ours.
_WORDS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), words)
    for pattern, words in (
        (r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<found>[^`]+)`)?", _of_kind),
        (r"Expected `(?P<wanted>\w+)` of length (?P<bound>[<>]=) (?P<limit>\d+)", _of_length),
        (r"Expected `(?P<wanted>\w+)` (?P<bound>[<>]=?) (?P<limit>[-+.\de]+)", _of_size),
        (
            r"Expected `array` of (?:at (?:least|most) )?length .*",
            lambda _: "it has too many entries, or too few",
        ),
        (r"Expected `str` matching regex .*", lambda _: "it is not written as it must be"),
        (
            r"Expected `datetime` with a timezone component|Invalid RFC3339 encoded datetime",
            lambda _: f"it must be {_KINDS['datetime']}",
        ),
        (r"Invalid RFC3339 encoded date", lambda _: f"it must be {_KINDS['date']}"),
        (r"Invalid UUID", lambda _: f"it must be {_KINDS['uuid']}"),
        (r"Invalid base64 encoded string", lambda _: f"it must be {_KINDS['bytes']}"),
        (
            r"Invalid (?:enum )?value (?P<given>.*)",
            lambda found: (
                f"{found['given'][:MOST_TOLD_CHARS]} is none of its values: `/docs` lists them"
            ),
        ),
        (r".*out of range", lambda _: "it is too large or too small"),
        (
            r"Object missing required field `(?P<name>[^`]*)`",
            lambda found: f"'{found['name']}' must be given",
        ),
        (
            r"Object contains unknown field `(?P<name>.*)`",
            lambda found: f"there is no field '{found['name'][:MOST_TOLD_CHARS]}'",
        ),
    )
)


def field_error(error: msgspec.ValidationError) -> FieldError:
    """Return where a value is wrong (``a.b[1]``; nothing for the body itself) and how."""
    found = _MESSAGE.fullmatch(str(error))
    assert found is not None
    # A struct's own check raises ValueError in our words, which msgspec passes on.
    is_ours = isinstance(error, Refused) or isinstance(error.__cause__, ValueError)
    return FieldError(
        field=(found["place"] or "").removeprefix("."),
        detail=found["what"] if is_ours else words_of(found["what"]),
    )


def words_of(message: str) -> str:
    """Return our words for a message of msgspec's."""
    for pattern, words in _WORDS:
        found = pattern.fullmatch(message)
        if found is not None:
            return words(found)
    return _OTHER


def no_json(error: Exception) -> str:
    """Return our words for JSON that cannot be read, with its place where that is known."""
    place = re.search(r"\(byte (\d+)\)$", str(error))
    if place is not None:
        return f"this is no JSON: it goes wrong at byte {place[1]}"
    if "truncated" in str(error):
        return "this is no JSON: it ends too early"
    if isinstance(error, RecursionError):
        return "this is no JSON that is taken: it is nested too deeply"
    return "this is no JSON in UTF-8"
