"""The walk through the API in the README, word for word, against a standalone service."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services import demo, first_key, standalone
from tests.support import programs, recordings, servers

pytestmark = pytest.mark.acceptance

README = Path(__file__).parents[2] / "README.md"
#: Stands in an answer for what is another one each time, or for more of the kind.
ANY = "…"
#: Between the outputs of two steps.
END = "--- end of a step ---"


@dataclass
class Step:
    """A block of the README that is run, and the answer that stands behind it."""

    script: str
    answer: str | None = None
    is_json: bool = False


def steps() -> list[Step]:
    found: list[Step] = []
    blocks = re.findall(r"^```(.*)\n((?:(?!```).*\n)*)```$", README.read_text(), re.MULTILINE)
    before = ""
    for kind, text in blocks:
        if kind == "sh walk":
            found.append(Step(text))
        elif before == "sh walk":
            found[-1].answer, found[-1].is_json = text, kind == "json"
        before = kind
    return found


def told(shown: Any, answered: Any) -> bool:
    """Whether an answer is the one that is shown."""
    if shown == ANY:
        return True
    if isinstance(shown, dict):
        if ANY not in shown and shown.keys() != answered.keys():
            return False
        return all(told(shown[name], answered.get(name)) for name in shown if name != ANY)
    if isinstance(shown, list):
        rest = shown[-1:] == [ANY]
        shown = shown[:-1] if rest else shown
        if not (len(shown) <= len(answered) if rest else len(shown) == len(answered)):
            return False
        return all(map(told, shown, answered))
    if isinstance(shown, float):
        # Levels are the same everywhere to within their second decimal, but shown by fewer.
        return isinstance(answered, float) and answered == pytest.approx(shown, abs=0.05)
    return bool(shown == answered)


def test_what_is_shown_is_what_is_answered() -> None:
    answered = {"a": [1.0, 2.0], "b": {"c": "x", "d": None}}
    same: list[Any] = [
        answered, {"a": [1.04, ANY], ANY: ANY}, {"a": ANY, "b": {"c": "x", ANY: ANY}},
    ]  # fmt: skip
    for shown in same:
        assert told(shown, answered)
    others: list[Any] = [
        {"a": [1.0, 2.0]}, {"a": [1.0], "b": ANY}, {"a": [1.2, 2.0], "b": ANY},
        {"a": [1.0, 2.0, 3.0, ANY], "b": ANY}, {"a": ANY, "b": {"c": "y", ANY: ANY}},
    ]  # fmt: skip
    for shown in others:
        assert not told(shown, answered)


def test_the_readme_walks_through_the_api(tmp_path: Path) -> None:
    for package in programs.missing(["curl"]):
        servers.unavailable(programs.remedy(package))
    walk = steps()
    assert len(walk) >= 5
    (tmp_path / "demo").mkdir()
    # As `make demo` leaves it.
    left = recordings.encode(recordings.demo(demo.SEED))
    recordings.write(tmp_path / "demo" / "demo.flac", left)
    script = "".join(f"{step.script}echo; echo '{END}'\n" for step in walk)
    home = tmp_path / "home"
    with standalone.running(home=home, log=tmp_path / "up.log") as client:
        known = {"URL": client.url, "KEY": first_key.key_of(home)}
        try:
            run = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script], check=False,
                env=os.environ | known, cwd=tmp_path, capture_output=True, text=True, timeout=240,
            )  # fmt: skip
        except FileNotFoundError as missing:
            servers.unavailable(missing)
    outputs = run.stdout.split(END)
    assert run.returncode == 0, run.stdout + run.stderr
    for step, output in zip(walk, outputs, strict=False):
        if step.answer is None:
            assert output.strip() == "", step.script
        elif step.is_json:
            shown = json.loads(step.answer)
            assert told(shown, json.loads(output)), f"{step.script}\n{output}"
        else:
            assert output.strip() == step.answer.strip(), step.script
