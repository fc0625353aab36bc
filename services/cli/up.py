"""``clamor up``: run everything in one process."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "up", help="run everything in one process, with an embedded Postgres"
    )
    options.add_address(parser)
    options.add_home(parser)
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input closes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    from db.settings import home_folder
    from services.processes import standalone

    if args.until_eof:
        standalone.stop_at_eof()
    standalone.run(
        home=args.home or home_folder(), host=args.host, port=args.port, is_private=args.until_eof
    )
    return 0
