"""``clamor sessions retry``: retry sessions that were given up."""

from __future__ import annotations

import argparse
import uuid

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    sessions = commands.add_parser("sessions", help="retry sessions that were given up")
    parser = sessions.add_subparsers(title="sessions", metavar="COMMAND", required=True).add_parser(
        "retry",
        help="retry sessions that were given up",
        description="Retry failed sessions that were given up, such as after an outage. Exits with "
        "1 if a session is refused.",
    )
    parser.add_argument("sessions", type=uuid.UUID, nargs="*", metavar="SESSION_ID")
    parser.add_argument(
        "--all", action="store_true", help="all given-up sessions that the key may see"
    )
    options.add_api(parser)
    parser.set_defaults(run=retry)


def retry(args: argparse.Namespace) -> int:
    """Retry the sessions; return 1 if one was refused."""
    from services.cli.actions import retries, targets
    from services.http.errors import UserError

    if args.all == bool(args.sessions):
        raise UserError("name the sessions to retry, or give --all")
    with targets.api(args) as (client, _):
        return retries.run(client, args.sessions)
