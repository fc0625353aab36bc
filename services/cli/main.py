"""The ``clamor`` command."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from services.cli import (
    analyze,
    batch,
    config,
    demo,
    export,
    health,
    key,
    migrate,
    model,
    models,
    openapi,
    process,
    promote,
    queues,
    report,
    restore,
    schedule,
    scheduler,
    serve,
    sessions,
    train,
    up,
    user,
    validate,
    worker,
)

#: Exit code of errors that the user can fix.
USAGE_ERROR = 2

#: The commands, in the order of the help.
COMMANDS = (
    process,
    batch,
    export,
    sessions,
    report,
    analyze,
    demo,
    train,
    validate,
    model,
    models,
    promote,
    up,
    serve,
    worker,
    scheduler,
    openapi,
    user,
    key,
    config,
    health,
    schedule,
    queues,
    restore,
    migrate,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit code."""
    args = parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = args.run
    # By default SIGTERM ends a command without its cleanup, and has no effect on PID 1. Servers
    # and workers set their own handlers once they run.
    signal.signal(signal.SIGTERM, _end)
    try:
        return run(args)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        messages = _messages(error)
        if not messages:
            raise
        for message in messages:
            print(f"clamor: {message}", file=sys.stderr)
        return USAGE_ERROR


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; it stores the function of the chosen one as ``run``."""
    whole = argparse.ArgumentParser(
        prog="clamor", description="Clamor detects noise in recordings: what it was, and when."
    )
    whole.set_defaults(home=None)
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return whole


def _end(signum: int, _frame: object) -> NoReturn:
    sys.exit(128 + signum)


def _messages(error: Exception) -> list[str]:
    """Return the messages of an error that name a remedy; none for one that needs a traceback."""
    # Imported only now, because they load the database library.
    from db.migration.errors import MigrationError
    from db.settings import SettingsError
    from db.unreachable import DatabaseUnreachable, DatabaseUnusable
    from services.client import ApiError
    from services.http.errors import UserError

    if isinstance(error, SettingsError):
        # A line for each fault.
        return str(error).splitlines()
    of_database = DatabaseUnreachable | DatabaseUnusable | MigrationError
    known = of_database | ApiError | UserError
    return [str(error)] if isinstance(error, known) else []
