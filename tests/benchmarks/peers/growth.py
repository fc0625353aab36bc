"""How the programs slow down with what has piled up around them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from db.queue import fair_order
from db.store import Store
from tests.benchmarks.peers.figures import Section
from tests.benchmarks.peers.queued import Queued
from tests.benchmarks.peers.stage import CLAMOR, GROWING, Stage

CONNECTIONS = (1, 10, 25, 50)
CLAIMS_FOR_S = 4.0
#: Waiting recordings during the measurement of claims.
CLAIMED_FROM = 20_000


def backlog(stage: Stage, *, sizes: Sequence[int], n: int) -> Section:
    """Measure the first clips of a backlog, on one worker."""
    section = Section(f"s for the first {n} clips of a backlog, one worker")
    for number in range(stage.rounds):
        for size in sizes:
            for name in GROWING:
                took_s = _first_s(stage, name, size=size, n=n)
                stage.said.print(f"backlog of {size:,}, round {number + 1}: {name} {took_s:.2f} s")
                section.add(f"{size:,} waiting", name, took_s)
    return section


def _first_s(stage: Stage, name: str, *, size: int, n: int) -> float:
    """Return the seconds until some recordings of a new backlog have been answered."""
    with ExitStack() as stack:
        program = stage.program(name, stack)
        stack.enter_context(program.running(1, warm=stage.warm()))
        took_s, _ = program.finish(
            n, post=lambda: program.queue_up(stage.warm(), size, n_started=n)
        )
    return took_s


def surroundings(stage: Stage, files: Sequence[Path], *, n_rows: int) -> Section:
    """Measure clips beside answered recordings, and beside an old transaction, in turns."""
    section = Section(f"s for {len(files)} clips, one worker")
    with ExitStack() as stack:
        cases: list[tuple[str, Queued]] = []
        for name in GROWING:
            empty, full, old = (stage.program(name, stack) for _ in range(3))
            stage.said.print(f"{n_rows:,} answered recordings: {name}")
            full.add_history(stage.warm(), n_rows)
            cases += [
                ("an empty database", empty),
                (f"{n_rows:,} answered recordings", full),
                ("an old transaction is open", old),
            ]
        for _, program in cases:
            stack.enter_context(program.running(1, warm=stage.warm()))
        for _, old in cases[2::3]:
            stack.enter_context(_old_transaction(old))
        for number in range(stage.rounds):
            for case, program in cases:
                took_s = stage.run(program, files).took_s
                stage.said.print(f"{case}, round {number + 1}: {program.name} {took_s:.2f} s")
                section.add(case, program.name, took_s)
    return section


@contextmanager
def _old_transaction(program: Queued) -> Iterator[None]:
    """Keep a transaction open that sees the rows of now, so that no row version can be removed."""
    with psycopg.connect(program.place.database_url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id()")
        yield


def connections(stage: Stage) -> Section:
    """Measure claims of waiting recordings by several connections at once."""
    section = Section("claims")
    for n_connections in CONNECTIONS:
        with ExitStack() as stack:
            program = stage.program(CLAMOR, stack)
            program.queue_up(stage.warm(), CLAIMED_FROM, n_started=0)
            taken_s = _claims(program.place.database_url, n_connections)
        stage.said.print(f"{n_connections} connections: {len(taken_s)} claims")
        row = f"{n_connections} connections"
        section.add(row, "a second", len(taken_s) / CLAIMS_FOR_S)
        section.add(row, "p50 in ms", 1e3 * statistics.median(taken_s))
        section.add(row, "p95 in ms", 1e3 * statistics.quantiles(taken_s, n=20)[-1])
    return section


def _claims(url: str, n_connections: int) -> list[float]:
    """Return the seconds of each claim with its commit."""
    store = Store(url, pool_size=n_connections)
    taken_s: list[float] = []
    ready = threading.Barrier(n_connections)

    def claim() -> None:
        with store.transaction() as tx:
            fair_order.next_session(tx, state="queued", lease_s=3_600)
        ready.wait()
        ends = time.perf_counter() + CLAIMS_FOR_S
        while (began := time.perf_counter()) < ends:
            with store.transaction() as tx:
                assert fair_order.next_session(tx, state="queued", lease_s=3_600)
            taken_s.append(time.perf_counter() - began)

    threads = [threading.Thread(target=claim) for _ in range(n_connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    return taken_s
