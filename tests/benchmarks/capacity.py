"""Measure what an hour of audio costs each part of an installation: `make bench-capacity`.

Starts an API, one worker, a private Postgres and a private RabbitMQ, and posts an hour of audio as
recordings of each length. Then clips arrive at random times, and their waits are compared with
those of a simulation (`tests.benchmarks.queueing`). docs/capacity.md has the figures.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from db import migrate
from db.settings import Settings
from services.client import Client
from services.processes.server import free_port
from tests.benchmarks import footprint
from tests.benchmarks.peers.figures import Section, write_report
from tests.benchmarks.queueing import poisson_arrivals_s, waits_s
from tests.support import accounts, recordings, servers
from tests.support.cluster import Cluster, Process, eventually

HOUR_S, DAY_S = 3_600.0, 86_400.0
#: Seconds of each recording of the hour.
LENGTHS_S = (3_600, 300, 10, 5)
#: Recordings that load the model and the caches before the measurement.
WARM_UP = 3
#: Share of the capacity of the worker at which clips arrive, and how many.
LOADS = (0.5, 0.8)
ARRIVALS = 400
#: Hours of audio a day that are planned for, the peak over the mean, and the use of a core then.
PLANNED = (100, 10_000, 1_000_000)
PEAK = 3.0
USE = 0.7
#: What is needed, the cost that it follows from, and the factor for an hour of audio a day.
NEEDS = (
    ("worker processes at the peak", "CPU seconds: worker", PEAK / DAY_S / USE),
    ("cores of the API", "CPU seconds: API", PEAK / DAY_S / USE),
    ("cores of Postgres", "CPU seconds: Postgres", PEAK / DAY_S / USE),
    ("cores of RabbitMQ", "CPU seconds: RabbitMQ", PEAK / DAY_S / USE),
    ("transaction IDs a second", "transaction IDs", PEAK / DAY_S),
    ("MB of WAL a second", "kB of WAL", PEAK / DAY_S / 1e3),
    ("GB of the database a day", "kB of the database", 1e-6),
    ("GB in the blob store a day", "kB in the blob store", 1e-6),
)
#: Time limit of each wait.
PATIENCE_S = 3_600.0

LEFT = """
    SELECT (SELECT count(*) FROM unfinished_sessions)
        + (SELECT count(*) FROM session_leftovers WHERE at_once)
"""
#: What Postgres has counted, by the names of the rows.
COUNTED = {
    "transactions": "SELECT sum(xact_commit) FROM pg_stat_database",
    "transaction IDs": footprint.XIDS,
    "kB of WAL": "SELECT (pg_current_wal_insert_lsn() - '0/0') / 1000",
    "kB of the database": "SELECT pg_database_size(current_database()) / 1000.0",
}
#: Times of arrival and seconds until the end, in the order of arrival.
TURNAROUNDS = """
    SELECT extract(epoch FROM session.created_at)::float,
           extract(epoch FROM result.finished_at - session.created_at)::float
    FROM audio_sessions AS session JOIN session_results AS result ON result.session_id = session.id
    WHERE session.created_at > %s ORDER BY session.created_at
"""


@dataclass
class Installation:
    """The processes of an installation, and a client of its API."""

    client: Client
    api: Process
    worker: Process
    postgres: servers.PrivatePostgres
    rabbitmq: servers.PrivateRabbitmq
    connection: psycopg.Connection[Any]
    blobs: Path

    def post(self, recording: Path, *, times: int = 1) -> None:
        """Post a recording some times."""
        for _ in range(times):
            self.client.upload(recording)

    def until_idle(self) -> None:
        """Wait until every session has ended and its leftovers are removed."""
        eventually(
            lambda: self.one(LEFT) == 0, timeout_s=PATIENCE_S, what="the end of all recordings"
        )

    def counters(self) -> dict[str, float]:
        """Return what the parts have used so far."""
        cpu_s = {
            "worker": self.worker.popen.pid,
            "API": self.api.popen.pid,
            "Postgres": self.postgres.process.pid,
            "RabbitMQ": self.rabbitmq.process.pid,
        }
        kept = sum(file.stat().st_size for file in self.blobs.rglob("*") if file.is_file())
        return {
            **{f"CPU seconds: {name}": tree_cpu_s(pid) for name, pid in cpu_s.items()},
            **{name: float(self.one(query)) for name, query in COUNTED.items()},
            "kB in the blob store": kept / 1e3,
        }

    def one(self, query: str) -> Any:
        """Return the only value of a query."""
        row = self.connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def tree_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and its children, also of those that have ended."""
    root = psutil.Process(pid)
    living = [each.cpu_times() for each in (root, *root.children(recursive=True))]
    ended = root.cpu_times()
    return sum(each.user + each.system for each in living) + (
        ended.children_user + ended.children_system
    )


def main() -> int:
    """Run from the command line."""
    options = _options()
    costs = Section("an hour of audio, as recordings of")
    waits = Section("clips of 5 s that arrive at random")
    with tempfile.TemporaryDirectory(prefix="clamor-capacity-") as name:
        folder = Path(name)
        with installation(folder, backbone=options.backbone) as running:
            for length_s in options.lengths:
                measure_hour(running, folder, length_s, hours=options.hours, into=costs)
            clip = _recording(folder, 5)
            service_s = costs.median("seconds of one worker", _named(5)) / (HOUR_S / 5)
            for load in LOADS:
                measure_waits(running, clip, load=load, service_s=service_s, into=waits)
    sections = {"costs": costs, "plan": plan(costs), "waits": waits}
    print("\n".join(line for each in sections.values() for line in each.lines()))
    if options.report is not None:
        write_report(options.report, sections, of="bench-capacity")
    return 0


@contextmanager
def installation(folder: Path, *, backbone: Path | None) -> Iterator[Installation]:
    """Start all processes, with the shipped model alone or with a backbone."""
    with ExitStack() as stack:
        postgres = stack.enter_context(servers.private_postgres())
        rabbitmq = stack.enter_context(servers.private_rabbitmq())
        url = stack.enter_context(servers.database(postgres.url))
        migrate.upgrade(url)
        accounts.add_first(url)
        settings = Settings(
            database_url=url,
            amqp_url=rabbitmq.url,
            blob_url=(folder / "blobs").as_uri(),
            key_pepper=accounts.PEPPER,
            secret_keys=accounts.SECRET_KEYS,
            rate_limit_per_s=1e6,
            backbone_url="off" if backbone is None else str(backbone),
        )
        cluster = stack.enter_context(Cluster(settings, folder))
        cluster.env["CLAMOR_MAX_UNFINISHED_SESSIONS"] = "100000"
        api = cluster.serve(port := free_port())
        worker = cluster.worker()
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        client = Client(f"http://127.0.0.1:{port}", key=accounts.KEY)
        stack.callback(client.close)
        running = Installation(
            client, api, worker, postgres, rabbitmq, connection, folder / "blobs"
        )
        running.post(_recording(folder, 5), times=WARM_UP)
        running.until_idle()
        yield running


def measure_hour(
    running: Installation, folder: Path, length_s: int, *, hours: float, into: Section
) -> None:
    """Post some hours of audio as recordings of one length; add the costs of one hour."""
    file = _recording(folder, length_s)
    n = max(round(hours * HOUR_S / length_s), 1)
    hours = n * length_s / HOUR_S
    print(f"{n} recordings of {length_s} s", file=sys.stderr, flush=True)
    before, began = running.counters(), time.monotonic()
    running.worker.freeze()
    running.post(file, times=n)
    running.worker.thaw()
    began = time.monotonic()
    running.until_idle()
    took_s = time.monotonic() - began
    into.add("recordings", _named(length_s), n / hours)
    into.add("seconds of one worker", _named(length_s), took_s / hours)
    for name, value in running.counters().items():
        into.add(name, _named(length_s), (value - before[name]) / hours)


def measure_waits(
    running: Installation, clip: Path, *, load: float, service_s: float, into: Section
) -> None:
    """Post clips at random times; add the waits of the real worker and of the simulated one."""
    print(f"clips arrive at {load:.0%} of the capacity", file=sys.stderr, flush=True)
    since = running.one("SELECT clock_timestamp()")
    chance = random.Random(7)
    began = time.monotonic()
    for at_s in poisson_arrivals_s(ARRIVALS, per_s=load / service_s, chance=chance):
        time.sleep(max(began + at_s - time.monotonic(), 0.0))
        running.post(clip)
    running.until_idle()
    rows = running.connection.execute(TURNAROUNDS, [since]).fetchall()
    arrivals, measured = zip(*rows, strict=True)
    services = [service_s] * len(arrivals)
    simulated = [wait_s + service_s for wait_s in waits_s(arrivals, services, n_workers=1)]
    for name, turnarounds in (("measured", measured), ("simulated", simulated)):
        for row, value in _percentiles(turnarounds).items():
            into.add(f"{load:.0%} of the capacity: {row}", name, 1e3 * value)


def plan(costs: Section) -> Section:
    """Return what some amounts of audio a day need, by the costs of an hour."""
    planned = Section("hours of audio a day")
    for length in costs.rows["recordings"]:
        for name, row, factor in NEEDS:
            for hours in PLANNED:
                needed = costs.median(row, length) * hours * factor
                planned.add(f"{name}, recordings of {length}", f"{hours:,}", needed)
    return planned


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"ms until the end, median": cuts[49], "ms until the end, 95 %": cuts[94]}


def _recording(folder: Path, length_s: int) -> Path:
    file = folder / f"{length_s}.flac"
    if not file.exists():
        file.write_bytes(recordings.encode(recordings.long(length_s / 60)))
    return file


def _named(length_s: int) -> str:
    return f"{length_s // 60} min" if length_s >= 60 else f"{length_s} s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-capacity", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="of each length (%(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS_S, help="seconds")
    parser.add_argument("--backbone", type=Path, help="weights of the backbone (default: none)")
    parser.add_argument("--report", type=Path, help="write the tables into this document")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
