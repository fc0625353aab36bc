"""What a clip costs the servers: statements, transactions, WAL and messages of the workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import psycopg

from tests.benchmarks import footprint
from tests.benchmarks.peers.figures import Section
from tests.benchmarks.peers.queued import Queued
from tests.benchmarks.peers.stage import QUEUED, Stage
from tests.support import servers

#: Seconds after which the broker's counters include everything: it collects every five.
COUNTED_S = 11.0


def costs(stage: Stage, files: Sequence[Path]) -> Section:
    """Count on private servers, one program after the other.

    Postgres writes no full page images, whose number depends on the checkpoints, and logs every
    statement. The statements and the WAL of posting are not counted; all messages are.
    """
    section = Section("per clip of 5 s")
    with (
        servers.private_postgres() as server,
        servers.private_rabbitmq(management=True) as rabbitmq,
        psycopg.connect(server.url, autocommit=True) as admin,
    ):
        admin.execute("ALTER SYSTEM SET full_page_writes = off")
        private = replace(stage, postgres=server.url, rabbitmq=rabbitmq.url)
        for name in QUEUED:
            stage.said.print(f"costs: {name}")
            with ExitStack() as stack:
                program = private.program(name, stack)
                stack.enter_context(program.running(1, warm=stage.warm()))
                published = _published(rabbitmq)
                counted = _counted(server, program, files)
                for what, n in counted.items():
                    section.add(what, name, n / len(files))
                n_messages = _published(rabbitmq) - published
                section.add("messages", name, n_messages / len(files))
    return section


def _counted(
    server: servers.PrivatePostgres, program: Queued, files: Sequence[Path]
) -> dict[str, int]:
    """Return what the server did from the moment that the workers began."""
    before: dict[str, int] = {}

    def post() -> None:
        for file in files:
            program.post(file)
        before.update(footprint.counters(server, program.connection))

    program.finish(len(files), post=post)
    after = footprint.counters(server, program.connection)
    return {name: after[name] - before[name] for name in after}


def _published(rabbitmq: servers.PrivateRabbitmq) -> int:
    """Return the messages that were published since the broker started."""
    time.sleep(COUNTED_S)
    overview = httpx.get(f"{rabbitmq.api_url}/api/overview").json()
    n: int = overview["message_stats"].get("publish", 0)
    return n
