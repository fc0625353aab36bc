"""``clamor report``: the report of a day."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="show the report of a day",
        description="Request the report of a day, and show it.",
    )
    parser.add_argument("day", type=date.fromisoformat, metavar="DAY", help="such as 2026-03-14")
    parser.add_argument(
        "--time-zone",
        default="UTC",
        metavar="ZONE",
        help="time zone of the day, as an IANA name: Europe/Berlin (default: UTC)",
    )
    parser.add_argument(
        "--all-users", action="store_true", help="include all users' sessions; for administrators"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write it as an HTML page")
    options.add_json(parser)
    options.add_api(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the report; return 1 if it failed."""
    from services.cli.actions import reports, targets

    with targets.api(args) as (client, bars):
        return reports.run(
            client,
            args.day,
            time_zone=args.time_zone,
            html=args.html,
            all_users=args.all_users,
            as_json=args.json,
            bars=bars,
        )
