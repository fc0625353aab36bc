"""Measure how long one recording waits behind a batch of another caller: `make bench-fairness`.

A batch of short clips waits for one worker, with a real Postgres and RabbitMQ. When a few are done,
another recording is posted: first by the caller of the batch, who waits behind it as in a
first-come-first-served order, then by a different caller. Afterwards the cost of a claim with a
large backlog is measured. The benchmark uses private databases and queues.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pika
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, text

from actors.messaging import broker, kinds, messages
from actors.messaging.broker import Publisher
from db import migrate
from db.blobs.blob_store import Blobs
from db.blobs.keys import recording_key
from db.queries import session_queries
from db.queue import fair_order
from db.settings import Settings
from db.store import Store
from db.tables.accounts import User
from tests.support import recordings, servers
from tests.support.cluster import Cluster, eventually

#: Length of a clip, and number of finished clips before the single recording is posted.
CLIP_S = 2
DONE_BEFORE = 5
#: Time limit of each wait.
PATIENCE_S = 3_600.0
#: Backlogs for the measurement of claims, as (sessions, spans per session).
CROWDS = ((2_000, 50), (100_000, 1))
LANES = 500
CLAIMS = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-fairness", description=__doc__)
    parser.add_argument("--files", type=int, default=500, help="files of the batch (%(default)s)")
    options = parser.parse_args()
    out, said = Console(), Console(stderr=True)
    waits = Table(title=f"one clip behind {options.files}, one worker, seconds until its result")
    waits.add_column("order")
    waits.add_column("s", justify="right")
    with ExitStack() as stack:
        postgres, rabbitmq = (
            stack.enter_context(server()) for server in (servers.postgres, servers.rabbitmq)
        )
        for name, is_same_caller in (("first come, first served", True), ("in turns", False)):
            said.print(name)
            with installation(postgres, rabbitmq) as bench:
                wait_s = bench.wait_s(n_files=options.files, is_same_caller=is_same_caller)
            waits.add_row(name, f"{wait_s:.1f}")
        claims = Table(title=f"a claim of a span, {LANES} lanes, median of {CLAIMS} in ms")
        for heading in ("sessions", "spans", "in Postgres", "and commit", "commit alone"):
            claims.add_column(heading, justify="right")
        for n_sessions, n_spans in CROWDS:
            said.print(f"{n_sessions} sessions of {n_spans} spans")
            with servers.database(postgres) as url:
                costs_s = claim_costs(url, n_sessions=n_sessions, n_spans=n_spans)
            claims.add_row(
                f"{n_sessions:,}",
                f"{n_sessions * n_spans:,}",
                *(f"{1e3 * cost_s:.2f}" for cost_s in costs_s),
            )
    out.print(waits)
    out.print(claims)
    return 0


class Bench:
    """One installation with one worker, and two callers."""

    def __init__(self, settings: Settings, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._blobs = Blobs(settings.blob_url)
        self._publisher = publisher
        self._clip = recordings.encode(recordings.demo()[: CLIP_S * recordings.RATE_HZ])
        self.callers = [uuid.uuid4() for _ in range(2)]
        with store.transaction() as tx:
            tx.execute(
                insert(User), [{"id": i, "email": f"{i}@x", "name": "x"} for i in self.callers]
            )

    def wait_s(self, *, n_files: int, is_same_caller: bool) -> float:
        """Return how long a single clip behind a batch waits for its result."""
        # Make the worker load its model before the measurement.
        warm = self._post(self.callers[0])
        self._until(lambda: self._finished(warm) == 1)
        batch = [self._post(self.callers[0]) for _ in range(n_files)]
        self._until(lambda: self._finished(*batch) >= DONE_BEFORE)
        began = time.monotonic()
        one = self._post(self.callers[0 if is_same_caller else 1])
        self._until(lambda: self._finished(one) == 1)
        return time.monotonic() - began

    def _post(self, user_id: uuid.UUID) -> uuid.UUID:
        """Do the work of an upload for a known user."""
        session_id = uuid.uuid4()
        key = recording_key(session_id)
        self._blobs.put(key, self._clip)
        with self._store.transaction() as tx:
            session_queries.add_session(
                tx,
                id=session_id,
                file_name="clip.flac",
                recording_key=key,
                size_bytes=len(self._clip),
                user_id=user_id,
            )
        self._publisher.send(messages.ProcessAudioFile(session_id=session_id))
        return session_id

    def _finished(self, *session_ids: uuid.UUID) -> int:
        with self._store.transaction() as tx:
            n_finished: int = tx.execute(
                text(
                    "SELECT count(*) FROM session_results"
                    " WHERE session_id = ANY(:ids) AND finished_at IS NOT NULL"
                ),
                {"ids": list(session_ids)},
            ).scalar_one()
        return n_finished

    def _until(self, is_so: Callable[[], bool]) -> None:
        eventually(is_so, timeout_s=PATIENCE_S)


@contextmanager
def installation(postgres: str, rabbitmq: str) -> Iterator[Bench]:
    """Set up a private database, queues and a worker."""
    with (
        tempfile.TemporaryDirectory(prefix="clamor-bench-") as folder,
        servers.database(postgres) as database_url,
    ):
        migrate.upgrade(database_url)
        settings = Settings(
            database_url=database_url,
            amqp_url=rabbitmq,
            blob_url=(Path(folder) / "blobs").as_uri(),
            queue_prefix=f"bench-{uuid.uuid4().hex[:12]}",
        )
        store = Store(database_url)
        publisher = Publisher(broker.setup(settings), prefix=settings.queue_prefix)
        try:
            with Cluster(settings, Path(folder)) as cluster:
                cluster.worker()
                yield Bench(settings, store, publisher)
        finally:
            publisher.close()
            store.close()
            remove_queues(settings)


def remove_queues(settings: Settings) -> None:
    """Delete all queues of this run."""
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    for kind in kinds.KINDS:
        name = messages.queue_name(kind.message, prefix=settings.queue_prefix)
        for queue in (name, f"{name}.DQ", f"{name}.XQ"):
            connection.channel().queue_delete(queue)
    connection.close()


def claim_costs(url: str, *, n_sessions: int, n_spans: int) -> tuple[float, float, float]:
    """Return the median times of a claim within Postgres, of a claim from here with its commit,
    and, for comparison, of the commit of one changed row.
    """
    migrate.upgrade(url)
    store = Store(url)
    with store.transaction() as tx:
        # Checking 100,000 references takes long on a busy machine.
        tx.execute(text("SET LOCAL statement_timeout = 0"))
        tx.execute(
            text(
                "WITH added AS ("
                " INSERT INTO audio_sessions (id, file_name, recording_key, size_bytes, state,"
                " created_at, spans_total) SELECT gen_random_uuid(), 'a', 'k', 1, 'detecting',"
                " now() - random() * interval '1 hour', :spans"
                " FROM generate_series(1, :sessions) RETURNING id, state, created_at)"
                " INSERT INTO unfinished_sessions (session_id, state, lane, created_at)"
                " SELECT id, state, md5((row_number() OVER () % :lanes)::text)::uuid, created_at"
                " FROM added"
            ),
            {"lanes": LANES, "sessions": n_sessions, "spans": n_spans},
        )
        tx.execute(
            text(
                "INSERT INTO session_spans (session_id, span_index, start_sample, stop_sample,"
                " state) SELECT id, i, i, i + 1, 'pending'"
                " FROM audio_sessions, generate_series(0, :spans - 1) AS i"
            ),
            {"spans": n_spans},
        )
        tx.execute(text("ANALYZE audio_sessions, unfinished_sessions, session_spans"))

    def claim() -> None:
        with store.transaction() as tx:
            assert fair_order.next_span(tx, lease_s=3_600)

    def commit() -> None:
        with store.transaction() as tx:
            tx.execute(text("UPDATE turns SET lane = lane WHERE state = 'queued'"))

    try:
        in_postgres_s = statistics.median(_claim_s(store) for _ in range(CLAIMS))
        return in_postgres_s, _median_s(claim), _median_s(commit)
    finally:
        store.close()


def _claim_s(store: Store) -> float:
    """Return the time of a claim by Postgres' measurement, including planning."""
    explain = text("EXPLAIN (ANALYZE, FORMAT JSON) " + fair_order.NEXT_SPAN.text)
    with store.transaction() as tx:
        parameters = {"priorities": fair_order.priorities(), "lease_s": 3_600.0}
        [plan] = tx.execute(explain, {"state": "detecting", **parameters}).scalar_one()
    return float(plan["Planning Time"] + plan["Execution Time"]) / 1e3


def _median_s(action: Callable[[], None]) -> float:
    taken: list[float] = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())
