"""``clamor migrate``: migrate the database to the newest schema."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli import options

if TYPE_CHECKING:
    from db.settings import Settings

#: The options of --grant, with the defaults of :class:`db.roles.Roles`.
NAMES = {
    "owner-role": "clamor_owner",
    "app-role": "clamor_app",
    "read-role": "clamor_read",
    "schema": "public",
}


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
    instead.add_argument(
        "--grant",
        action="store_true",
        help="print the SQL of the roles: an owner, an application, a reader (docs/dba.md#roles)",
    )
    parser.add_argument("--apply", action="store_true", help="run the SQL of --grant")
    for option, default in NAMES.items():
        parser.add_argument(
            f"--{option}", default=default, metavar="NAME", help="for --grant (%(default)s)"
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
    if args.grant:
        return _grant(args)
    if args.apply:
        raise migrate.MigrationError("--apply needs --grant: clamor migrate --grant --apply")
    settings = from_environment()
    _require_direct(settings)
    print(f"at revision {migrate.upgrade(settings.database_url)}")
    return 0


def _require_direct(settings: Settings) -> None:
    """Raise if the database is behind a pooler, which cannot hold the lock of migrations."""
    from db.connection_options import TRANSACTION_POOLER
    from db.migrate import MigrationError

    if settings.database_pooler == TRANSACTION_POOLER:
        raise MigrationError(
            "migrations need Postgres itself, not a pooler in transaction mode: set DATABASE_URL "
            "to the server and CLAMOR_DATABASE_POOLER to none for this command"
        )


def _grant(args: argparse.Namespace) -> int:
    from db import roles
    from db.settings import connection_options, from_environment

    names = roles.Roles(
        owner=args.owner_role, app=args.app_role, reader=args.read_role, schema=args.schema
    )
    if not args.apply:
        print(roles.statements(names, connection_options()), end="")
        return 0
    settings = from_environment()
    _require_direct(settings)
    roles.apply(settings.database_url, names, connection_options())
    print(f"granted: {names.owner}, {names.app} and {names.reader} in schema {names.schema}")
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
        print(f"not in the migrations: {difference}", file=sys.stderr)
    print(f"one head, {revision}; {len(differences) or 'no'} differences from the models")
    return 1 if differences else 0
