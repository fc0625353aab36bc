"""``clamor schedule``: the periodic jobs, for operators."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    schedule = commands.add_parser(
        "schedule",
        help="show the periodic jobs, their latest results and next runs",
        description=f"Show the periodic jobs of {options.INSTALLATION}. Exits with 1 if the "
        "latest run of a job failed.",
    )
    options.add_json(schedule)
    options.add_installation(schedule, show)
    runs = schedule.add_subparsers(title="runs", metavar="COMMAND")
    parser = runs.add_parser("run", help="run a job now, and wait for its end")
    parser.add_argument("job", metavar="JOB", help="such as health_check")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        dest="options",
        metavar="NAME=VALUE",
        help="override an option of the job; values are JSON: docs/maintenance.md",
    )
    parser.add_argument(
        "--force",
        action="append_const",
        dest="options",
        const="force=true",
        help="run even where the job would refuse, such as clean_up in the store of another "
        "database; the same as --option force=true",
    )
    options.add_installation(parser, run)


def show(args: argparse.Namespace) -> int:
    """Show the jobs; return 1 if the latest run of one failed."""
    from services.cli.actions import schedule, targets

    return schedule.overview(targets.settings(args), as_json=args.json)


def run(args: argparse.Namespace) -> int:
    """Run a job; return 1 if it failed."""
    from services.cli.actions import schedule, targets

    return schedule.run(targets.settings(args), args.job, args.options)
