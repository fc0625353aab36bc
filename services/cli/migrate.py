"""``clamor migrate``: migrate the database to the newest schema."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("migrate", help="migrate the database to the newest schema")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--sql", action="store_true", help="print the SQL without running it")
    instead.add_argument(
        "--check",
        action="store_true",
        help="check on an embedded database: one head, and the schema of the models",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Migrate the database; return 1 if the check finds a difference."""
    from db import migrate
    from db.settings import from_environment

    if args.sql:
        migrate.sql()
        return 0
    if args.check:
        return _check()
    print(f"at revision {migrate.upgrade(from_environment().database_url)}")
    return 0


def _check() -> int:
    from db import migrate
    from services.processes import standalone

    with (
        tempfile.TemporaryDirectory(prefix="clamor-check-") as folder,
        standalone.postgres(Path(folder)) as url,
    ):
        revision = migrate.upgrade(url)
        differences = migrate.drift(url)
    for difference in differences:
        print(difference, file=sys.stderr)
    print(f"one head, {revision}; {len(differences) or 'no'} differences from the models")
    return 1 if differences else 0
