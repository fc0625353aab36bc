"""``clamor queues``: the queues and their dead letters, for operators."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    queues = commands.add_parser(
        "queues",
        help="show the queues: waiting, in progress, and dead letters",
        description=f"Show every queue of {options.INSTALLATION}. Exits with 1 if there are dead "
        "letters.",
    )
    options.add_json(queues)
    options.add_installation(queues, run)
    dead_letters = queues.add_subparsers(title="dead letters", metavar="COMMAND")

    parser = dead_letters.add_parser("show", help="show the dead letters of a queue, oldest first")
    parser.add_argument("queue", metavar="QUEUE", help="such as audio.detect")
    parser.add_argument(
        "--limit", type=options.count, default=20, metavar="N", help="(default: 20)"
    )
    options.add_json(parser)
    options.add_installation(parser, show)

    parser = dead_letters.add_parser(
        "replay",
        help="return dead letters to their queues",
        description="Return dead letters to their queues, oldest first. Letters that this release "
        "cannot read stay where they are; then the exit code is 1.",
    )
    parser.add_argument("queues", nargs="*", metavar="QUEUE", help="(default: every queue)")
    parser.add_argument("--limit", type=options.count, metavar="N", help="return at most N")
    parser.add_argument(
        "--drop-unreadable", action="store_true", help="remove letters that cannot be read"
    )
    options.add_installation(parser, replay)


def run(args: argparse.Namespace) -> int:
    """Show the queues; return 1 if there are dead letters."""
    from services.cli.actions import queues
    from services.processes import homes

    settings, service = homes.installation(args.home)
    return queues.overview(settings, service, as_json=args.json)


def show(args: argparse.Namespace) -> int:
    """Show the dead letters of a queue."""
    from services.cli.actions import queues, targets

    return queues.show(targets.settings(args), args.queue, limit=args.limit, as_json=args.json)


def replay(args: argparse.Namespace) -> int:
    """Return dead letters to their queues; return 1 if some cannot be read."""
    from services.cli.actions import queues, targets

    return queues.replay(
        targets.settings(args),
        args.queues,
        limit=args.limit,
        drop_unreadable=args.drop_unreadable,
    )
