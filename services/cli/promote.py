"""``clamor promote``: analyse new sessions with a model."""

from __future__ import annotations

import argparse
import uuid

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "promote",
        help="analyse new sessions with a model",
        description="Analyse new sessions with a model. It is compared with the one in use on the "
        "newest labelled set that both were validated on, else by cross-validation. If noise types "
        "would be lost or a figure is worse, the command asks at a terminal and fails elsewhere.",
    )
    parser.add_argument("model", type=uuid.UUID, metavar="MODEL_ID")
    parser.add_argument(
        "--force", action="store_true", help="do not ask, and promote even if it is worse"
    )
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Promote the model; return 1 if it is worse and was not confirmed."""
    from rich.console import Console

    from services.cli.actions import models, targets

    with targets.api(args) as (client, _):
        return models.put_to_use(client, args.model, force=args.force, out=Console())
