"""``clamor user``: the users of the API, for operators."""

from __future__ import annotations

import argparse

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the commands."""
    user = commands.add_parser(
        "user",
        help="manage the users of the API",
        description=f"Users of {options.INSTALLATION}.",
    ).add_subparsers(title="commands", required=True, metavar="COMMAND")
    parser = user.add_parser("create", help="create a user, and print the ID")
    parser.add_argument("email", metavar="EMAIL")
    parser.add_argument("--name", help="(default: the email address)")
    parser.add_argument(
        "--max-audio-s-per-month",
        type=_seconds,
        metavar="N",
        help="seconds of audio per month (default: the limit of the installation)",
    )
    options.add_installation(parser, create)
    options.add_installation(user.add_parser("list", help="list the users"), show)
    for name, help_, run in (
        ("disable", "refuse all keys of a user", disable),
        ("enable", "accept them again", enable),
    ):
        parser = user.add_parser(name, help=help_)
        parser.add_argument("user", metavar="EMAIL|USER_ID")
        options.add_installation(parser, run)
    parser = user.add_parser(
        "erase",
        help="remove a user with everything of theirs",
        description="Count the sessions of a user or, with --yes, remove the user with every row "
        "and every stored file of theirs, and print a receipt.",
    )
    parser.add_argument("user", metavar="EMAIL|USER_ID")
    parser.add_argument("--yes", action="store_true", help="erase, do not only count")
    options.add_installation(parser, erase)


def erase(args: argparse.Namespace) -> int:
    """Erase a user, or count what would be erased."""
    from services.cli.actions import erasure, targets

    return erasure.run(targets.settings(args), args.user, is_confirmed=args.yes)


def create(args: argparse.Namespace) -> int:
    """Create a user."""
    from services.cli.actions import accounts, targets

    return accounts.create_user(
        targets.settings(args),
        args.email,
        name=args.name,
        max_audio_s_per_month=args.max_audio_s_per_month,
    )


def show(args: argparse.Namespace) -> int:
    """List the users."""
    from services.cli.actions import accounts, targets

    return accounts.show_users(targets.settings(args))


def disable(args: argparse.Namespace) -> int:
    """Disable a user."""
    from services.cli.actions import accounts, targets

    return accounts.switch_user(targets.settings(args), args.user, disabled=True)


def enable(args: argparse.Namespace) -> int:
    """Re-enable a user."""
    from services.cli.actions import accounts, targets

    return accounts.switch_user(targets.settings(args), args.user, disabled=False)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1e12:
        raise argparse.ArgumentTypeError("must be between 0 and 1e12")
    return value
