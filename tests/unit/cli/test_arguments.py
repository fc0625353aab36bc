"""Parsing of command lines."""

from __future__ import annotations

import pytest

from services.cli.arguments import parser


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ([], []),
        (["--force"], ["force=true"]),
        (["--option", "dry_run=true", "--force"], ["dry_run=true", "force=true"]),
    ],
)
def test_force_is_an_option_of_a_job(given: list[str], options: list[str]) -> None:
    asked = parser().parse_args(["schedule", "run", "clean_up", *given])
    assert asked.options == options
