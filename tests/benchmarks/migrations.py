"""Measure how long readers and writers wait while each step of a migration runs.

    .venv/bin/python -m tests.benchmarks.migrations [--sessions 1000000]
        [--transaction SECONDS [--of TABLE]]

A writer changes and adds sessions, and a reader reads them by primary key, each as fast as it can.
The goal is that no writer waits for more than 250 ms. With ``--transaction`` a repeatable-read
transaction that has read a table, as a dump has, is open when the first step starts.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from db import migrate
from db.migration.chain import RevisionChain
from tests.support import servers

#: The longest wait of a writer that is acceptable.
GOAL_S = 0.25
#: Time that the loops run before the first step, for comparison.
QUIET_S = 5.0
#: The pause between statements beside an open transaction: the server keeps every version of a row
#: that it may still read.
PAUSE_S = 0.01
#: Rows that one statement adds before the measurement.
PAGE = 100_000
#: The parts of the steps, in the order in which a release would use them.
STEPS = {
    "add_column": "steps.add_column('audio_sessions', 'bench_kind text')",
    "add_column with a default": "steps.add_column('audio_sessions',"
    " 'bench_flag boolean NOT NULL DEFAULT false')",
    # New rows get the value by themselves before the others are filled.
    "brief: a default": "steps.brief('default', \"ALTER TABLE audio_sessions ALTER COLUMN"
    " bench_kind SET DEFAULT 'plain'\")",
    "backfill": "steps.backfill('audio_sessions', \"bench_kind = 'plain'\","
    ' "bench_kind IS NULL")',
    "add_check": "steps.add_check('ck_bench', 'audio_sessions', \"bench_kind <> 'none'\")",
    "set_not_null": "steps.set_not_null('audio_sessions', 'bench_kind')",
    "add_foreign_key": "steps.add_foreign_key('fk_bench', 'audio_sessions', 'bench_user', 'users')",
    "create_index": "steps.create_index('ix_bench', 'audio_sessions', 'bench_kind, created_at')",
    "create_index, there already": "steps.create_index('ix_bench', 'audio_sessions',"
    " 'bench_kind, created_at')",
    "drop_index": "steps.drop_index('ix_bench')",
    "drop_constraint": "steps.drop_constraint('ck_bench', 'audio_sessions')",
    "drop_column": "steps.drop_column('audio_sessions', 'bench_kind')",
}
BEFORE = {"add_foreign_key": "steps.add_column('audio_sessions', 'bench_user uuid')"}

ADD = """
WITH added AS (
    INSERT INTO audio_sessions (id, file_name, recording_key, size_bytes, state)
    SELECT gen_random_uuid(), 'a.wav', 'b', 1, 'cancelled' FROM generate_series(1, %s)
    RETURNING id, created_at, state)
INSERT INTO session_results (session_id, created_at, outcome, finished_at)
SELECT id, created_at, state, now() FROM added
"""
CHANGE = "UPDATE audio_sessions SET file_name = %s WHERE id = %s"
READ = "SELECT state, file_name FROM audio_sessions WHERE id = %s"


class Loop:
    """Runs statements one after the other in a thread, and keeps the longest time of one."""

    def __init__(
        self, url: str, statements: Iterator[tuple[str, tuple[object, ...]]], *, pause_s: float
    ) -> None:
        self._statements, self._pause_s = statements, pause_s
        self._ended = threading.Event()
        self._longest_s = 0.0
        #: When the statement under way began; None between two statements.
        self._began_at: float | None = None
        self._lock = threading.Lock()
        self.n = 0
        self._thread = threading.Thread(target=self._run, args=(url,))
        self._thread.start()

    def _run(self, url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement, values in self._statements:
                if self._ended.is_set():
                    return
                with self._lock:
                    self._began_at = time.monotonic()
                connection.execute(statement, values)
                with self._lock:
                    self._longest_s = self._with_statement_s()
                    self._began_at = None
                    self.n += 1
                time.sleep(self._pause_s)

    def restart(self) -> None:
        """Forget the longest time."""
        with self._lock:
            self._longest_s = 0.0

    def longest_s(self) -> float:
        """Return the longest time since the restart, with that of the statement under way."""
        with self._lock:
            return self._with_statement_s()

    def _with_statement_s(self) -> float:
        if self._began_at is None:
            return self._longest_s
        return max(self._longest_s, time.monotonic() - self._began_at)

    def stop(self) -> None:
        """End the thread after its statement."""
        self._ended.set()
        self._thread.join()


def writes(ids: list[object]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield changes of sessions, and every tenth time a new one."""
    n = 0
    while True:
        n += 1
        yield (ADD, (1,)) if n % 10 == 0 else (CHANGE, (f"{n}.wav", random.choice(ids)))


def reads(ids: list[object]) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield queries of sessions."""
    while True:
        yield READ, (random.choice(ids),)


def main() -> None:
    """Print the longest waits for each step."""
    parser = argparse.ArgumentParser(description=__doc__, prog="migrations")
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--transaction", type=float, metavar="SECONDS", help="keep one open")
    parser.add_argument(
        "--of", default="audio_sessions", metavar="TABLE", help="what it has read (%(default)s)"
    )
    args = parser.parse_args()
    n_sessions = args.sessions
    with (
        servers.postgres() as server_url,
        servers.database(server_url) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        ids = fill(url, n_sessions)
        chain = write_chain(Path(folder))
        print(f"{n_sessions:,} sessions; times in seconds\n")
        print("| step | time | longest wait of a writer | of a reader |")
        print("|---|---|---|---|")
        pause_s = PAUSE_S if args.transaction else 0.0
        with loops(url, ids, pause_s=pause_s) as (writer, reader), ExitStack() as stack:
            time.sleep(QUIET_S)
            worst_s = 0.0
            report("none", QUIET_S, writer, reader)
            if args.transaction:
                stack.enter_context(open_transaction(url, args.of, for_s=args.transaction))
            for script in chain.revisions:
                writer.restart()
                reader.restart()
                began_at = time.monotonic()
                migrate.upgrade(url, to=script.revision, chain=chain, say=say)
                took_s = time.monotonic() - began_at
                worst_s = max(worst_s, writer.longest_s())
                report(script.doc, took_s, writer, reader)
            print(f"\n{writer.n:,} writes, {reader.n:,} reads")
    verdict = "within" if worst_s <= GOAL_S else "above"
    print(f"longest wait of a writer: {worst_s:.3f} s, {verdict} the goal of {GOAL_S} s")


def say(line: str) -> None:
    """Print a line of the migration apart from the table."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def open_transaction(url: str, table: str, *, for_s: float) -> Iterator[None]:
    """Keep a repeatable-read transaction open that has read a table, at most for some seconds."""
    with psycopg.connect(url, application_name="open transaction") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(f"SELECT FROM {table} LIMIT 1")
        timer = threading.Timer(for_s, connection.rollback)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def report(name: str, took_s: float, writer: Loop, reader: Loop) -> None:
    """Print a row of the table."""
    waits = f"{writer.longest_s():.3f} | {reader.longest_s():.3f}"
    print(f"| {name} | {took_s:.1f} | {waits} |", flush=True)


def fill(url: str, n_sessions: int) -> list[object]:
    """Migrate a database, add the sessions, and return some of their IDs."""
    migrate.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for first in range(0, n_sessions, PAGE):
            connection.execute(ADD, (min(PAGE, n_sessions - first),))
        connection.execute("VACUUM ANALYZE audio_sessions")
        # The chain of this benchmark starts here.
        connection.execute("DELETE FROM alembic_version")
        rows = connection.execute("SELECT id FROM audio_sessions LIMIT 10000").fetchall()
    return [row[0] for row in rows]


def write_chain(folder: Path) -> RevisionChain:
    """Write a revision for each step."""
    before = "None"
    # The first one makes the chain's own entry, so that each measured one is a step alone.
    bodies = {"nothing": "pass"}
    for name, body in STEPS.items():
        if name in BEFORE:
            bodies[f"before {name}"] = BEFORE[name]
        bodies[name] = body
    for number, (name, body) in enumerate(bodies.items()):
        revision = f"b{number:02}"
        (folder / f"{revision}.py").write_text(
            f'"""{name}"""\nfrom db.migration import steps\n'
            f'revision, down_revision = "{revision}", {before}\n\n\n'
            f"def upgrade():\n    {body}\n\n\ndef downgrade():\n    pass\n"
        )
        before = repr(revision)
    return RevisionChain((folder,))


@contextmanager
def loops(url: str, ids: list[object], *, pause_s: float) -> Iterator[tuple[Loop, Loop]]:
    """Run a writer and a reader."""
    with ExitStack() as stack:
        writer = Loop(url, writes(ids), pause_s=pause_s)
        stack.callback(writer.stop)
        reader = Loop(url, reads(ids), pause_s=pause_s)
        stack.callback(reader.stop)
        yield writer, reader


if __name__ == "__main__":
    main()
