"""The language of an answer, chosen by ``Accept-Language``."""

from __future__ import annotations

import pytest

from services.http.languages import choose

LANGUAGES = ("en", "de", "fr", "es", "zh")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE", "de"),
        # A region falls back to its language, and so does a script.
        ("de-AT", "de"),
        ("zh-Hant-TW", "zh"),
        ("de-*", "de"),
        # The highest weight wins in any order; the first of equal ones.
        ("en;q=0.5, de;q=0.9", "de"),
        ("fr, de", "fr"),
        ("fr ; q = 0.3 ,\tes; q=0.301", "es"),
        ("de;q=0.5, en-GB;q=0.7, fr;q=0.1", "en"),
        # Unavailable languages are skipped.
        ("it, pt-BR;q=0.9, es;q=0.1", "es"),
        ("it, tlh", "en"),
        # `*` matches any language that the header does not name.
        ("*", "en"),
        ("it, *;q=0.1", "en"),
        ("en;q=0.1, *;q=0.5", "de"),
        ("de;q=0.2, *;q=0.5", "en"),
        # A weight of 0 excludes a language with its regions.
        ("de;q=0", "en"),
        ("en;q=0, *", "de"),
        ("de;q=0, de-AT, fr;q=0.1", "fr"),
        ("de-AT;q=0, de", "de"),
        ("*;q=0", "en"),
        ("en;q=0, *;q=0", "en"),
        # Invalid ranges are ignored, and the others are used.
        ("de;q=2, fr;q=0.1", "fr"),
        ("de;q=-1, de;q=0.1", "de"),
        ("de;q=0.1234", "en"),
        ("de_AT, fr", "fr"),
        ("\u00e4, ;q=1, ,, es", "es"),
        ("de;level=1", "en"),
    ],
)
def test_the_language_is_the_one_that_the_header_prefers(header: str | None, wanted: str) -> None:
    assert choose(header, LANGUAGES) == wanted


def test_a_long_header_is_read_quickly() -> None:
    assert choose("a-" * 100_000 + ",de", LANGUAGES) == "de"
    assert choose("x," * 50_000 + "de;q=0.1", LANGUAGES) == "de"
