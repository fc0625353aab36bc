"""``clamor sessions retry``: retry failed sessions."""

from __future__ import annotations

import argparse
import uuid

from services.cli import options

#: The arguments that choose among failed sessions, as the API names them.
FILTERS = ("code", "batch_id", "finished_from", "finished_to")


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    sessions = commands.add_parser("sessions", help="retry failed sessions")
    parser = sessions.add_subparsers(title="sessions", metavar="COMMAND", required=True).add_parser(
        "retry",
        help="retry failed sessions",
        description="Retry the named sessions, or count those that failed and, with --yes, retry "
        "them. Exits with 1 if a session is refused.",
    )
    parser.add_argument("sessions", type=uuid.UUID, nargs="*", metavar="SESSION_ID")
    parser.add_argument(
        "--given-up",
        dest="which",
        action="store_const",
        const="given-up",
        help="all sessions that were given up, such as after an outage, and that the key may see",
    )
    parser.add_argument(
        "--failed",
        dest="which",
        action="store_const",
        const="failed",
        help="all failed sessions; for administrators",
    )
    parser.add_argument("--code", help="only those with this problem code")
    parser.add_argument("--batch", dest="batch_id", type=uuid.UUID, help="only those of this batch")
    parser.add_argument(
        "--from", dest="finished_from", metavar="TIME", help="only those that ended then or later"
    )
    parser.add_argument(
        "--to", dest="finished_to", metavar="TIME", help="only those that ended before this time"
    )
    parser.add_argument("--yes", action="store_true", help="retry them, do not only count them")
    options.add_api(parser)
    parser.set_defaults(run=retry)


def retry(args: argparse.Namespace) -> int:
    """Retry the sessions; return 1 if one was refused."""
    from services.cli.actions import retries, targets
    from services.http.errors import UserError

    if bool(args.which) == bool(args.sessions):
        raise UserError("name the sessions to retry, or give --given-up or --failed")
    with targets.api(args) as (client, _):
        if args.sessions:
            return retries.run(client, args.sessions)
        given = {name: getattr(args, name) for name in ("which", *FILTERS)}
        which = {name: str(value) for name, value in given.items() if value is not None}
        return retries.run_all(client, is_confirmed=args.yes, **which)
