"""``clamor key``: the API keys of users, for operators."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    key = commands.add_parser(
        "key",
        help="manage the API keys of users",
        description=f"API keys of {options.INSTALLATION}. A key is shown only once, when it is "
        "created.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_create(key)
    parser = key.add_parser("list", help="list a user's keys, without their secrets")
    parser.add_argument("user", metavar="EMAIL|USER_ID")
    options.add_installation(parser, show)
    parser = key.add_parser("rotate", help="create a key that replaces another")
    parser.add_argument("key", metavar="KEY_ID")
    parser.add_argument(
        "--overlap-hours",
        type=_hours,
        default=24,
        metavar="N",
        help="how long the old key stays valid (default: 24)",
    )
    options.add_installation(parser, rotate)
    parser = key.add_parser("revoke", help="revoke a key, effective with the next request")
    parser.add_argument("key", metavar="KEY_ID")
    options.add_installation(parser, revoke)


def _add_create(key: options.Commands) -> None:
    parser = key.add_parser("create", help="create a key, and print it")
    parser.add_argument("user", metavar="EMAIL|USER_ID")
    parser.add_argument("--name", required=True, help="what the key is for")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        dest="scopes",
        choices=options.SCOPES,
        metavar="SCOPE",
        help=f"what the key allows; may be repeated: {', '.join(options.SCOPES)}",
    )
    parser.add_argument("--days", type=options.count, metavar="N", help="expires after N days")
    parser.add_argument(
        "--requests-per-s",
        type=_rate,
        metavar="N",
        help="requests per second (default: the limit of the installation)",
    )
    options.add_installation(parser, create)


def create(args: argparse.Namespace) -> int:
    """Create a key."""
    from services.cli.actions import accounts, targets

    return accounts.create_key(
        targets.settings(args),
        args.user,
        name=args.name,
        scopes=args.scopes,
        days=args.days,
        requests_per_s=args.requests_per_s,
    )


def show(args: argparse.Namespace) -> int:
    """List a user's keys."""
    from services.cli.actions import accounts, targets

    return accounts.show_keys(targets.settings(args), args.user)


def rotate(args: argparse.Namespace) -> int:
    """Create a key that replaces another."""
    from services.cli.actions import accounts, targets

    return accounts.rotate_key(targets.settings(args), args.key, overlap_hours=args.overlap_hours)


def revoke(args: argparse.Namespace) -> int:
    """Revoke a key."""
    from services.cli.actions import accounts, targets

    return accounts.revoke_key(targets.settings(args), args.key)


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError("must be above 0 and at most a million")
    return value


def _hours(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number of at least 0")
    return int(text)
