"""What the table of a recording says about its channels."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from services.cli.actions import processing
from services.cli.actions.processing import FileResult
from services.cli.main import parser
from services.client.wire.sessions import Session
from services.openapi.examples.sessions import COMPLETED


@pytest.mark.parametrize(
    ("channels", "line"),
    [
        (None, None),
        ({"used": [1, 2]}, None),
        ({"used": [2]}, "channels: 2 used"),
        ({"used": [2], "silent": [1]}, "channels: 2 used; 1 silent"),
        ({"used": [1, 2], "inverted": [2]}, "channels: 1, 2 used; 2 inverted"),
    ],
)
def test_channels_that_are_not_all_used_and_live_have_a_line(
    channels: dict[str, Any] | None, line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    answer: dict[str, Any] = copy.deepcopy(COMPLETED)
    answer["summary"]["channels"] = channels and {
        "silent": [],
        "identical": [],
        "inverted": [],
        **channels,
    }
    answer["summary"]["model"] = {"name": "clamor-base", "version": "5", "backbone": None}
    processing.print_table(FileResult("a.flac", msgspec.convert(answer, Session)))
    printed = capsys.readouterr().out.splitlines()
    assert [each for each in printed if each.startswith("channels:")] == ([line] if line else [])


def test_a_channel_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["process", "a.flac", "--channel", "left"])
    assert "energy_mean" in capsys.readouterr().err
