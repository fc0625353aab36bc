"""Replace this process with a worker or the scheduler, so that signals reach it directly."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from actors.observability import probe_listener
from actors.observability.logs import configure
from db import migrate
from db.settings import from_environment
from services.http import shutdown


def wait_for_schema(process: str) -> None:
    """Wait until the database has the schema of this release; SIGTERM ends the wait.

    ``process`` is the name of the waiting process in ``pg_stat_activity``.

    Raises
    ------
    SettingsError
        If a setting is wrong, or the address of the probes is in use.
    """
    settings = from_environment()
    configure(settings.log_level)
    if settings.probe_address is not None:
        probe_listener.require_free(settings.probe_address)
    # Without a handler, PID 1 of a container would ignore the signal. The program that this process
    # becomes does not inherit the handler. There is nothing to clean up, and an exception could get
    # lost in a callback of the database library.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    migrate.wait_until_migrated(settings.database_url, settings.connection_options(process))


def become(arguments: Sequence[str], **environment: str) -> NoReturn:
    """Replace this process with another Python.

    A stop signal that arrives while the new program loads stays blocked until it handles signals.
    Otherwise PID 1 would ignore the signal and be killed after the grace period.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, shutdown.SIGNALS)
    os.execve(
        sys.executable,
        [sys.executable, *arguments],
        {**os.environ, **environment},
    )
