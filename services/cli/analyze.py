"""``clamor analyze``: the analysis of a session."""

from __future__ import annotations

import argparse
import uuid

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "analyze",
        help="show the time and the share of sound energy of each noise type in a session",
        description="Show the analysis of a finished session. With limits it is computed again.",
    )
    parser.add_argument("session", type=uuid.UUID, metavar="SESSION_ID")
    parser.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        dest="limits",
        metavar="LEVEL=DB",
        help="count the seconds above a limit: LAeq=65 or LAFmax=80",
    )
    options.add_json(parser)
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the analysis."""
    from services.cli.actions import analyses, targets

    with targets.api(args) as (client, _):
        return analyses.show(client, args.session, limits=args.limits, as_json=args.json)


def _limit(text: str) -> tuple[str, float]:
    level, _, limit_db = text.partition("=")
    if level not in options.LIMITED_LEVELS:
        raise argparse.ArgumentTypeError("must be a level and a limit in dB: LAeq=65")
    return level, float(limit_db)
