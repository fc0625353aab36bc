"""``clamor sessions``: retry failed sessions, and delete sessions."""

from __future__ import annotations

import argparse
import uuid

from services.cli import options

#: The arguments that choose among failed sessions, as the API names them.
FILTERS = ("code", "batch_id", "finished_from", "finished_to")
#: The same for sessions to delete, besides the metadata.
DELETED = (
    "states",
    "batch_id",
    "created_from",
    "created_to",
    "recorded_from",
    "recorded_to",
    "user_id",
)


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    sessions = commands.add_parser("sessions", help="retry failed sessions, and delete sessions")
    choice = sessions.add_subparsers(title="sessions", metavar="COMMAND", required=True)
    _add_delete(choice)
    parser = choice.add_parser(
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


def _add_delete(choice: options.Commands) -> None:
    parser = choice.add_parser(
        "delete",
        help="delete sessions with their recordings and results",
        description="Delete the named sessions, or count those that match all conditions and, with "
        "--yes, delete them. Exits with 1 if a session is refused.",
    )
    parser.add_argument("sessions", type=uuid.UUID, nargs="*", metavar="SESSION_ID")
    parser.add_argument(
        "--only-audio",
        action="store_true",
        help="delete the recordings of the named sessions, and keep the results",
    )
    parser.add_argument(
        "--state", dest="states", action="append", help="only those in this state; repeatable"
    )
    parser.add_argument("--batch", dest="batch_id", type=uuid.UUID, help="only those of this batch")
    parser.add_argument(
        "--from", dest="created_from", metavar="TIME", help="only those posted then or later"
    )
    parser.add_argument(
        "--to", dest="created_to", metavar="TIME", help="only those posted before this time"
    )
    parser.add_argument(
        "--recorded-from", metavar="TIME", help="only recordings that began then or later"
    )
    parser.add_argument(
        "--recorded-to", metavar="TIME", help="only recordings that began before this time"
    )
    parser.add_argument(
        "--metadata",
        action="append",
        metavar="KEY=VALUE",
        help="only those with this text in their metadata; repeatable",
    )
    parser.add_argument(
        "--user", dest="user_id", type=uuid.UUID, help="only those of this user; for administrators"
    )
    parser.add_argument("--yes", action="store_true", help="delete them, do not only count them")
    options.add_api(parser)
    parser.set_defaults(run=delete)


def delete(args: argparse.Namespace) -> int:
    """Delete the sessions; return 1 if one was refused."""
    from services.cli.actions import deletions, targets
    from services.http.errors import UserError

    which = {
        name: str(value) if isinstance(value, uuid.UUID) else value
        for name in DELETED
        if (value := getattr(args, name)) is not None
    }
    if args.metadata:
        which["metadata"] = dict(_pair(each) for each in args.metadata)
    if bool(which) == bool(args.sessions):
        raise UserError("name the sessions to delete, or give conditions such as --to TIME")
    if args.only_audio and which:
        raise UserError("--only-audio needs the IDs of the sessions")
    with targets.api(args) as (client, _):
        if args.sessions:
            return deletions.run(client, args.sessions, only_audio=args.only_audio)
        return deletions.run_all(client, is_confirmed=args.yes, **which)


def _pair(text: str) -> tuple[str, str]:
    from services.http.errors import UserError

    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--metadata {text}: give it as KEY=VALUE")
    return name, value


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
