"""``clamor restore``: compare a restored database with its blob store, for operators."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    restore = commands.add_parser(
        "restore",
        help="after a restore, find recordings that the database does not know",
        description="Compare the database with the blob store: docs/restore.md.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")
    parser = restore.add_parser(
        "check",
        help="list sessions without their recording, and recordings without a session",
        description=f"Compare the sessions of {options.INSTALLATION} with the recordings in the "
        "blob store. Exits with 1 if a session lacks its recording, or a recording its session.",
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="make a session of each recording without one; needs --user",
    )
    parser.add_argument(
        "--user", metavar="EMAIL|USER_ID", help="the owner of adopted sessions, with --adopt"
    )
    parser.add_argument(
        "--privacy",
        choices=options.PRIVACY,
        default="keep",
        help="what to keep of adopted recordings once their sessions end (default: keep)",
    )
    parser.add_argument(
        "--limit",
        type=options.count,
        default=20,
        metavar="N",
        help="name at most N of each (default: 20)",
    )
    options.add_json(parser)
    options.add_installation(parser, check)


def check(args: argparse.Namespace) -> int:
    """Compare the two, and adopt if asked; return 1 if they do not agree."""
    from services.cli.actions import restore, targets

    return restore.check(
        targets.settings(args),
        adopt=args.adopt,
        user=args.user,
        privacy=args.privacy,
        limit=args.limit,
        as_json=args.json,
    )
