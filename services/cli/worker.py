"""``clamor worker``: run workers."""

from __future__ import annotations

import argparse
from typing import NoReturn

from services.cli import options


def add_parser(commands: options.Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("worker", help="run workers")
    options.add_processes(parser, of="worker")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> NoReturn:
    """Become dramatiq's master process."""
    from db.settings import WEBHOOK_KEYS_VARIABLE, from_environment

    # Report wrong settings here rather than from child processes.
    settings = from_environment(required=(WEBHOOK_KEYS_VARIABLE,))

    from db.blobs.blob_store import Blobs
    from services.cli.actions import replacement

    Blobs.of(settings)
    replacement.wait_for_schema("clamor-worker")
    # One thread per process: parallelism comes from processes. All of dramatiq's defaults (one
    # process per core, eight threads, ten minutes to stop) are overridden here.
    program = ["-m", "actors.master", "actors.boot:boot", "--processes", str(args.processes)]
    limits = ["--threads", "1", "--worker-shutdown-timeout", "25000", "--skip-logging"]
    # Prefetch one message: a second one would wait here while other workers are idle.
    replacement.become([*program, *limits], dramatiq_queue_prefetch="1")
