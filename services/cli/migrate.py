"""``clamor migrate``: migrate the database to the newest schema."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from services.cli import options

#: Exit code of a migration that failed, and of a check that found a difference.
FAILED = 1

#: The options of --grant, with the defaults of :class:`db.roles.Roles`.
NAMES = {
    "owner-role": "clamor_owner",
    "app-role": "clamor_app",
    "read-role": "clamor_read",
    "schema": "public",
}
#: The options that need another one.
BELONGS_TO = {
    "json": "status",
    "lose-data": "down",
    "apply": "grant",
    **dict.fromkeys(NAMES, "grant"),
}


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("migrate", help="migrate the database to the newest schema")
    _add_alternatives(parser)
    parser.add_argument("--to", metavar="REVISION", help="stop at a revision; also with --plan")
    parser.add_argument(
        "--lose-data", action="store_true", help="consent to the losses that --down prints"
    )
    parser.add_argument("--json", action="store_true", help="print --status as JSON")
    parser.add_argument(
        "--patience",
        type=_seconds,
        metavar="SECONDS",
        help="how long a step tries to get its lock (default: 900)",
    )
    parser.add_argument("--apply", action="store_true", help="run the SQL of --grant")
    for option, default in NAMES.items():
        parser.add_argument(f"--{option}", metavar="NAME", help=f"for --grant ({default})")
    parser.set_defaults(run=run)


def _add_alternatives(parser: argparse.ArgumentParser) -> None:
    """Add the options of what the command does instead of migrating to the newest schema."""
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--down",
        metavar="REVISION",
        help="revert the revisions after one (or after base, all), and print what is lost with"
        " them; needs --lose-data",
    )
    instead.add_argument(
        "--status",
        action="store_true",
        help="print the revision, what is pending, invalid indexes and differences from the models",
    )
    instead.add_argument(
        "--wait",
        action="store_true",
        help="migrate nothing, but wait until the database has the schema of this release",
    )
    instead.add_argument(
        "--plan", action="store_true", help="print the SQL that would run on the database"
    )
    instead.add_argument(
        "--sql", action="store_true", help="print the SQL from an empty database to the newest"
    )
    instead.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if the database lacks a revision or differs from the models; without"
        " DATABASE_URL, check the migrations on an embedded database",
    )
    instead.add_argument(
        "--grant",
        action="store_true",
        help="print the SQL of the roles: an owner, an application, a reader (docs/dba.md#roles)",
    )


def run(args: argparse.Namespace) -> int:
    """Migrate the database; return 1 if that fails, or if the check finds a difference."""
    from db.migration.errors import MigrationError

    try:
        return _run(args)
    except MigrationError as error:
        print(f"clamor: {error}", file=sys.stderr)
        return FAILED


def _run(args: argparse.Namespace) -> int:
    from db import migrate
    from db.settings import migration_url

    _refuse_misplaced(args)
    if args.sql:
        migrate.sql()
    elif args.plan:
        print(migrate.plan(migration_url(), to=args.to), end="")
    elif args.status:
        status = migrate.status(migration_url())
        print(json.dumps(status.json(), indent=2) if args.json else "\n".join(status.lines()))
    elif args.check:
        return _check()
    elif args.wait:
        _wait()
    elif args.down is not None:
        return _down(args)
    elif args.grant:
        _grant(args)
    else:
        print(f"at revision {migrate.upgrade(migration_url(), to=args.to, **_how(args))}")
    return 0


def _refuse_misplaced(args: argparse.Namespace) -> None:
    """Raise MigrationError if an option is given without the one that it belongs to."""
    from db.migration.errors import MigrationError

    for option, command in BELONGS_TO.items():
        is_given = getattr(args, option.replace("-", "_")) not in (None, False)
        if is_given and getattr(args, command) in (None, False):
            raise MigrationError(f"--{option} belongs to --{command}: clamor migrate --{command}")
    reads_only = args.status or args.check or args.sql or args.grant or args.wait
    # A script may name a revision by a variable that is not set.
    for option in ("to", "down"):
        if getattr(args, option) == "":
            raise MigrationError(f"--{option} needs the name of a revision")
    if args.to and (args.down or reads_only):
        raise MigrationError("--to stops clamor migrate, or clamor migrate --plan, at a revision")
    if args.patience is not None and (args.plan or reads_only):
        raise MigrationError("--patience belongs to clamor migrate, or clamor migrate --down")


def _wait() -> None:
    """Wait with the rights and the connections of a process that is about to start."""
    from services.cli.actions import replacement

    replacement.wait_for_schema("clamor")
    print("the database has the schema of this release")


def _down(args: argparse.Namespace) -> int:
    from db import migrate
    from db.migration.errors import MigrationError
    from db.settings import migration_url

    url = migration_url()
    losses = migrate.losses_of(url, args.down)
    for line in losses:
        print(f"lost with {line}", file=sys.stderr)
    if losses and not args.lose_data:
        raise MigrationError("nothing was reverted: add --lose-data to consent to these losses")
    print(f"at revision {migrate.downgrade(url, args.down, **_how(args))}")
    return 0


def _grant(args: argparse.Namespace) -> None:
    from db import roles
    from db.settings import connection_options, migration_url

    given = [getattr(args, option.replace("-", "_")) for option in NAMES]
    owner, app, reader, schema = (
        default if name is None else name
        for name, default in zip(given, NAMES.values(), strict=True)
    )
    names = roles.Roles(owner=owner, app=app, reader=reader, schema=schema)
    if not args.apply:
        print(roles.statements(names, connection_options()), end="")
        return
    roles.apply(migration_url(), names, connection_options())
    print(f"granted: {names.owner}, {names.app} and {names.reader} in schema {names.schema}")


def _check() -> int:
    """Check the database of the environment, or the migrations themselves."""
    from db import migrate
    from db.settings import DATABASE_VARIABLE, MIGRATION_VARIABLE, is_given, migration_url
    from services.processes import standalone

    if is_given(DATABASE_VARIABLE, MIGRATION_VARIABLE):
        status = migrate.status(migration_url())
    else:
        with (
            tempfile.TemporaryDirectory(prefix="clamor-check-") as folder,
            standalone.postgres(Path(folder)) as embedded_url,
        ):
            migrate.upgrade(embedded_url)
            status = migrate.status(embedded_url)
    problems = status.problems()
    for problem in problems:
        print(problem, file=sys.stderr)
    n = len(problems)
    print(f"at revision {status.revision}; {n or 'no'} problem{'' if n == 1 else 's'}")
    return FAILED if problems else 0


def _how(args: argparse.Namespace) -> dict[str, Any]:
    how: dict[str, Any] = {"say": lambda line: print(line, file=sys.stderr, flush=True)}
    if args.patience is not None:
        how["patience_s"] = args.patience
    return how


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of at least 0")
    return value
