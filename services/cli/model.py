"""``clamor model fetch``: fetch the weights of the backbone."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    model = commands.add_parser("model", help="fetch the weights of the backbone")
    parser = model.add_subparsers(title="commands", required=True, metavar="COMMAND").add_parser(
        "fetch",
        help="fetch the weights of the backbone, if missing",
        description="Fetch the weights of the backbone into the user's data folder, if missing: "
        "from their official address, or from CLAMOR_BACKBONE_URL.",
    )
    parser.add_argument(
        "--beside-model",
        action="store_true",
        help="store them in the package, beside the shipped model: for container images",
    )
    parser.add_argument(
        "--limit-s",
        type=options.count,
        default=600,
        metavar="N",
        help="give up after N seconds (default: 600)",
    )
    parser.set_defaults(run=fetch)


def fetch(args: argparse.Namespace) -> int:
    """Fetch the weights."""
    from db.settings import backbone_url
    from services.cli.actions import backbone

    return backbone.fetch(backbone_url(), beside_model=args.beside_model, limit_s=args.limit_s)
