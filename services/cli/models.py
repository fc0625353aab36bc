"""``clamor models``: list the models."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("models", help="list the models, and show which one is in use")
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List the models."""
    from services.cli.actions import models, targets

    with targets.api(args) as (client, _):
        return models.show_models(client)
