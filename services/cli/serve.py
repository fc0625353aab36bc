"""``clamor serve``: run the HTTP API."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="run the HTTP API")
    options.add_address(parser)
    options.add_processes(parser, of="server")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal arrives."""
    from db.settings import from_environment
    from services.processes import server

    # Report missing settings here rather than from a child process that dies.
    settings = from_environment()
    server.serve(
        "services.app:get_app",
        settings,
        host=args.host,
        port=args.port,
        processes=args.processes,
    )
    return 0
