"""The parser of all commands."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.cli.main import parser

#: Besides the standard library: the commands, and the formats of exports.
OWN = {"services", "actors"}


def test_building_the_parser_loads_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules);"
        "from services.cli.main import parser; parser().format_help();"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = ran.stdout.split()
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names <= OWN
    assert "services.cli.queues" in loaded
    assert [name for name in loaded if name.startswith("services.cli.actions")] == []
    assert [name for name in loaded if name.startswith("db")] == []


def leaves(whole: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of commands that can run."""
    below = [each for each in whole._actions if isinstance(each, argparse._SubParsersAction)]
    if not below or not below[0].required:
        yield whole
    for each in below:
        for command in each.choices.values():
            yield from leaves(command)


def test_every_command_runs_a_function_with_a_description() -> None:
    runs = {command.prog: command.get_default("run") for command in leaves(parser())}
    assert {"clamor process", "clamor queues", "clamor queues replay"} <= runs.keys()
    assert [prog for prog, run in runs.items() if not (callable(run) and run.__doc__)] == []
    # Each has a function of its own: a subcommand that forgot to set one would run its parent.
    assert len(set(runs.values())) == len(runs)


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
