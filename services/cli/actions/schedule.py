"""``clamor schedule``: the periodic jobs, for operators."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from actors.messaging import broker
from actors.messaging.broker import Publisher
from db.queries import job_run_queries
from db.settings import Settings
from db.store import Store
from services.api.admin import jobs
from services.cli.actions import targets
from services.cli.actions.bars import Bars
from services.http.errors import ServiceError, UserError

#: Seconds between two polls of a run.
POLL_S = 0.5


def overview(settings: Settings, *, as_json: bool) -> int:
    """Show every job; return 1 if the latest run of one failed."""
    with targets.store(settings) as store:
        found = jobs.jobs(store).items
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        table = Table("job", "schedule (UTC)", "next", "latest run", "by", "result")
        for job in found:
            run = job.latest_run
            table.add_row(
                job.name,
                job.cron,
                f"{job.next_at:%Y-%m-%d %H:%M}",
                "never" if run is None else f"{run.slot:%Y-%m-%d %H:%M}",
                "" if run is None else run.source,
                "" if run is None else _told(run),
            )
        Console().print(table)
    return int(any(job.latest_run and job.latest_run.state == "failed" for job in found))


def run(settings: Settings, name: str, options: Sequence[str]) -> int:
    """Run a job, and wait for its end; return 1 if it failed."""
    # The in-memory broker belongs to the process of the service, and is out of reach here.
    publisher = (
        None
        if settings.in_memory_broker
        else Publisher(broker.setup(settings), prefix=settings.queue_prefix)
    )
    try:
        with targets.store(settings) as store:
            asked = jobs.ask(store, publisher, name, dict(map(_option, options)))
            done = _wait(store, asked)
    except ServiceError as error:
        raise UserError(str(error)) from None
    finally:
        if publisher is not None:
            publisher.close()
    if done.problem is not None:
        print(f"clamor: {name} failed: {done.problem.detail}", file=sys.stderr)
        return 1
    print(json.dumps(done.result, indent=2))
    return 0


def _wait(store: Store, run: jobs.Run) -> jobs.Run:
    with Bars(Console(file=sys.stderr)) as bars:
        task = bars.add_task(run.job, total=100, stage=run.stage)
        while not run.finished:
            time.sleep(POLL_S)
            with store.transaction() as tx:
                row = job_run_queries.get_run(tx, run.id)
            if row is None:
                raise UserError("the run was removed")
            run = jobs.Run.of(row)
            bars.update(task, completed=run.percent, stage=run.stage)
    return run


def _option(given: str) -> tuple[str, object]:
    name, is_given, value = given.partition("=")
    if not is_given:
        raise UserError(f"{given!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _told(run: jobs.Run) -> str:
    if run.problem is not None:
        return f"failed: {run.problem.detail}"
    if run.result is None:
        return f"{run.state}, {run.percent} %"
    return ", ".join(f"{name} {value}" for name, value in run.result.items() if value)
