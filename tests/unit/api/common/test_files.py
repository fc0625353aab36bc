"""Clients' file names are only shown, never used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.common.files import DEFAULT_NAME, NAME_CHARS, display_name


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
