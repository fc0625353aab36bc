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
    from db.settings import PEPPER_VARIABLE, WEBHOOK_KEYS_VARIABLE, from_environment

    # Report wrong settings here rather than from child processes, which would be started again.
    settings = from_environment(required=(PEPPER_VARIABLE, WEBHOOK_KEYS_VARIABLE))

    from actors.observability import probe_listener
    from actors.observability.logs import configure
    from db.blobs.blob_store import Blobs
    from services.processes import server

    configure(settings.log_level)
    Blobs.of(settings)
    if settings.probe_address is not None:
        probe_listener.require_free(settings.probe_address)
    server.serve(
        "services.app:get_app",
        settings,
        host=args.host,
        port=args.port,
        processes=args.processes,
    )
    return 0
