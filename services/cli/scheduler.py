"""``clamor scheduler``: start the periodic jobs."""

from __future__ import annotations

import argparse
from typing import NoReturn

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("scheduler", help="start the periodic jobs; run one scheduler")
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> NoReturn:
    """Become the scheduler's process."""
    from services.cli.actions import replacement

    replacement.wait_for_schema("clamor-scheduler")
    # periodiq reads its cron lines in local time.
    program = ["-m", "actors.scheduling.scheduler", "actors.scheduling.boot:boot"]
    replacement.become(program, TZ="UTC")
