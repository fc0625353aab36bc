"""What a command addresses: an API, or an installation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from db.settings import Settings, home_folder
from services.client import Client
from services.processes import homes, own_service

if TYPE_CHECKING:
    from db.store import Store

#: The API key for ``--api``. Not an argument, since every user of the machine can see arguments.
KEY_VARIABLE = "CLAMOR_API_KEY"


@contextmanager
def api(args: argparse.Namespace, *, quiet: bool = False) -> Iterator[tuple[Client, Console]]:
    """Yield a client and a console for progress, on standard error.

    The client is one of ``--api``, or of the standalone service, started if it does not run.
    """
    bars = Console(file=sys.stderr, quiet=quiet)
    if args.api is None:
        home = args.home or home_folder()
        bars.print(f"Using the standalone service of {home} ...", markup=False)
        with own_service.running(home=home, log=home / "up.log") as client:
            yield client, bars
        return
    key = os.environ.get(KEY_VARIABLE, "").strip()
    with closing(Client(args.api, key=key)) as client:
        yield client, bars


def settings(args: argparse.Namespace) -> Settings:
    """Return the settings of the installation that an operator's command addresses."""
    return homes.installation(args.home)[0]


@contextmanager
def store(settings: Settings) -> Iterator[Store]:
    """Yield the store of an installation, with one connection; close it at the end.

    Raises
    ------
    DatabaseUnreachable
        If the connection to the database fails.
    DatabaseUnusable
        If the database lacks the schema, or the user may not use it.
    """
    # Imported here: commands that address an API need no database library.
    from db.store import Store
    from db.unreachable import reached, used

    opened = Store(
        settings.database_url, pool_size=1, options=settings.connection_options("clamor")
    )
    try:
        with reached(opened.engine), used():
            yield opened
    finally:
        opened.close()
