"""Names of files that others chose are only shown, never used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.facts.display_names import (
    DEFAULT_NAME,
    NAME_CHARS,
    attachment_name,
    display_name,
)


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("a.wav", "a.wav"),
        ("../../etc/passwd", "passwd"),
        ("C:\\sounds\\a b.wav", "a b.wav"),
        ("a\r\nX-Evil: 1.wav", "a X-Evil: 1.wav"),
        ("..", ".."),
        ("", DEFAULT_NAME),
        ("///", DEFAULT_NAME),
        ("\x00\x1b[31m", "[31m"),
        ("höhe.flac", "höhe.flac"),
    ],
)
def test_display_name(given_name: str, shown: str) -> None:
    assert display_name(given_name) == shown


@given(st.text(max_size=400))
def test_any_name_becomes_one_short_printable_line(name: str) -> None:
    shown = display_name(name)
    assert 0 < len(shown) <= NAME_CHARS
    assert "/" not in shown
    assert "\\" not in shown
    assert "\x00" not in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("attachment; filename=20240702_064404.wav", "20240702_064404.wav"),
        ('attachment; filename="a; b.wav"', "a; b.wav"),
        ("attachment; filename*=UTF-8''h%C3%B6he%20a.wav", "h\u00f6he a.wav"),
        ('inline; FileName="../../etc/passwd"', "passwd"),
        ("attachment", None),
        ("attachment; filename=", None),
        ("", None),
        ("attachment; filename*=no-such-set''a.wav", "a.wav"),
    ],
)
def test_the_name_that_a_server_gives(disposition: str, name: str | None) -> None:
    assert attachment_name(disposition) == name


@given(st.text(max_size=400))
def test_no_header_is_an_error(disposition: str) -> None:
    for before in ("", "attachment; filename=", "attachment; filename*="):
        name = attachment_name(before + disposition)
        assert name is None or 0 < len(name) <= NAME_CHARS
