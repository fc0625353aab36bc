"""``clamor config check``: check the settings, and reach everything that they name."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    config = commands.add_parser("config", help="check the settings")
    below = config.add_subparsers(title="commands", required=True, metavar="COMMAND")
    parser = below.add_parser(
        "check",
        help="check the settings, and reach each dependency",
        description=f"Check the settings of {options.INSTALLATION}, and reach each dependency that "
        "they name: its version, TLS, and the rights that Clamor needs. Exits with 2 if a setting "
        "is wrong, and with 1 if a dependency does not do what is needed.",
    )
    options.add_json(parser)
    options.add_installation(parser, run)


def run(args: argparse.Namespace) -> int:
    """Show what each dependency answers; return 1 if one has a fault."""
    from services.cli.actions import dependencies, targets

    return dependencies.show(targets.settings(args), as_json=args.json)
