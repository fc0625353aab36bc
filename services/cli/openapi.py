"""``clamor openapi``: print the OpenAPI description, without a running API."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("openapi", help="print the OpenAPI description")
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    """Print the description."""
    from services.cli.actions import openapi

    return openapi.show()
