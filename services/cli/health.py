"""``clamor health``: the latest health check."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "health",
        help="show the latest health check",
        description=f"Show the latest health check of {options.INSTALLATION}. "
        "Exits with 1 if a check failed, or if the result is too old.",
    )
    options.add_json(parser)
    options.add_installation(parser, run)


def run(args: argparse.Namespace) -> int:
    """Show the health check; return 1 if one failed or the result is too old."""
    from services.cli.actions import health, targets

    return health.show(targets.settings(args), as_json=args.json)
