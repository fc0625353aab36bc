"""A database with a year of sessions, and timed lines about it."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import falcon.testing
from rich.console import Console

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.observability.logs import configure
from db import migrate
from db.settings import Settings
from services.cli.actions.bars import Bars
from tests.benchmarks import year, year_plan
from tests.support import accounts, servers
from tests.support.api import app_of

#: Number of repetitions of reads.
TIMES = 15
MS = 1e3


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table; times in milliseconds."""

    what: str
    p50_ms: float
    p99_ms: float | None = None
    max_ms: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The filled database, and Clamor on top of it."""

    settings: Settings
    plan: year_plan.Plan
    runtime: Runtime
    api: falcon.testing.TestClient
    admin: falcon.testing.TestClient
    said: Console = field(default_factory=lambda: Console(stderr=True))


@contextmanager
def bench_of(plan: year_plan.Plan, *, url: str | None = None) -> Iterator[Bench]:
    """Set up Clamor over a new filled database, or over the one at ``url``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clamor-year-")))
        if url is None:
            postgres = stack.enter_context(servers.postgres())
            url = stack.enter_context(servers.database(postgres))
            _fill(url, plan)
        settings = Settings(
            database_url=url,
            amqp_url="memory://",
            blob_url=(folder / "blobs").as_uri(),
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
            rate_limit_per_s=1e6,
            log_level="WARNING",
        )
        configure(settings.log_level)
        made = broker.setup(settings)
        runtime = Runtime(settings, made)
        stack.callback(runtime.close)
        app = app_of(runtime)
        # Exempt existing objects from garbage collection: API processes do not have them.
        gc.collect()
        gc.freeze()
        yield Bench(
            settings=settings,
            plan=plan,
            runtime=runtime,
            api=accounts.client(app),
            admin=accounts.client(app, accounts.ADMIN_KEY),
        )


def _fill(url: str, plan: year_plan.Plan) -> None:
    migrate.upgrade(url)
    accounts.add_first(url)
    with Bars(Console(stderr=True)) as bars:
        task = bars.add_task("a year", total=100, stage="begins")
        year.fill(
            url,
            plan,
            tell=lambda share, what: bars.update(task, completed=100 * share, stage=what),
        )


def timed(what: str, action: Callable[[], object], *, times: int = TIMES, note: str = "") -> Line:
    """Time several runs of an action, after one warm-up run."""
    action()
    taken_s = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken_s.append(time.perf_counter() - began)
    return Line(
        what=what, p50_ms=statistics.median(taken_s) * MS, max_ms=max(taken_s) * MS, note=note
    )
