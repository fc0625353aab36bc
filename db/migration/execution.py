"""Run the statements of migrations with the right timeouts and retries, or write them down."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection

from db.migration import backfill, errors, watch
from db.migration.definitions import Definitions

#: Lock timeouts of the tries of a brief step. Queries queue behind a statement that waits for its
#: lock, for as long as this.
LOCK_TIMEOUTS_MS = (100, 150)
#: The lock timeout if an autovacuum holds the lock: the server cancels it for a statement that has
#: waited for ``deadlock_timeout`` (1 s).
AUTOVACUUM_LOCK_TIMEOUT_MS = 1_200
#: Pauses between the tries, in which the queries that queued finish.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
#: A brief step that takes longer would hold its lock for too long, and is undone.
STATEMENT_TIMEOUT_MS = 30_000
#: How long a brief step is tried: longer than a dump of ten minutes, which locks every table.
PATIENCE_S = 900.0

Say = Callable[[str], None]


class Execution(Protocol):
    """Where the steps of a revision go: to the database, or into a plan."""

    definitions: Definitions

    def note(self, text: str) -> None:
        """Explain the next statements."""

    def brief(self, what: str, *statements: str) -> None:
        """Run statements in one transaction that takes its locks for an instant."""

    def long(self, what: str, statement: str) -> None:
        """Run a statement that takes long, blocks no query and cannot be in a transaction."""

    def batches(self, what: str, table: str, change: str, where: str, key: Sequence[str]) -> None:
        """Change the rows that meet a condition, in batches that are committed one by one."""


def timeouts(lock_ms: int, statement_ms: int) -> tuple[str, str]:
    """Return the statements that set the timeouts of a connection; 0 for none."""
    return f"SET lock_timeout = {lock_ms}", f"SET statement_timeout = {statement_ms}"


class Running:
    """Runs steps on a database.

    Parameters
    ----------
    connection
        The connection that holds the migration lock.
    patience_s
        How long a step that does not get its lock is tried again.
    say
        Gets a line about each wait and each long step.
    """

    def __init__(
        self, connection: Connection, *, patience_s: float = PATIENCE_S, say: Say | None = None
    ) -> None:
        self.connection = connection
        self.engine: sqlalchemy.Engine = connection.engine
        self.patience_s = patience_s
        self.say: Say = say or (lambda _line: None)
        self.definitions = Definitions(connection)
        self._timeouts: tuple[int, int] = (0, 0)
        self.set_timeouts(LOCK_TIMEOUTS_MS[0], STATEMENT_TIMEOUT_MS)

    def note(self, text: str) -> None:
        """Print a line about a step."""
        self.say(text)

    def brief(self, what: str, *statements: str) -> None:
        """Run statements in one transaction; try again while the lock is not free."""

        def run() -> None:
            self.execute("BEGIN")
            try:
                for statement in statements:
                    self.execute(statement)
                self.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

        self.patiently(what, run)

    def long(self, what: str, statement: str) -> None:
        """Run a statement without timeouts, and print its progress.

        A lock timeout would also end the waits of a concurrent build for old snapshots, such as
        that of a dump.
        """
        with (
            self.timeouts(0, 0),
            watch.watched(self.engine, self._pid, what, self.say),
        ):
            self.execute(statement)

    def batches(self, what: str, table: str, change: str, where: str, key: Sequence[str]) -> None:
        """Change rows in batches."""
        with self.timeouts(LOCK_TIMEOUTS_MS[0], 0):
            backfill.run(self, what, backfill.Backfill(table, change, where, tuple(key)))

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> Any:
        """Run a statement on the connection as it is written, and return its result."""
        if values is None:
            # Without parameters the driver does not look for percent signs.
            plain = {"no_parameters": True}
            return self.connection.exec_driver_sql(statement, execution_options=plain)
        return self.connection.exec_driver_sql(statement, tuple(values))

    def patiently(self, what: str, action: Callable[[], None]) -> None:
        """Run an action until it gets its locks.

        Raises
        ------
        MigrationError
            If it did not get them in time. The action is rolled back.
        """
        gives_up_at = time.monotonic() + self.patience_s
        lock_ms, may_end_vacuum = LOCK_TIMEOUTS_MS[0], True
        for n_tries in itertools.count():
            pause_s = PAUSES_S[min(n_tries, len(PAUSES_S) - 1)]
            with (
                self.timeouts(lock_ms, self._timeouts[1]),
                watch.watched(self.engine, self._pid, what, None) as watching,
            ):
                try:
                    return action()
                except sqlalchemy.exc.DBAPIError as error:
                    if not errors.is_lock(error):
                        raise
            holder = watching.blockers or "another transaction"
            if time.monotonic() + pause_s > gives_up_at:
                raise errors.MigrationError(
                    f"{what}: no lock within {self.patience_s:.0f} s, because of {holder}."
                    f" This step changed nothing. End what holds the lock, or give a longer"
                    f" --patience, {errors.AGAIN}"
                )
            self.say(f"{what}: waits for {holder}; next try in {pause_s:.1f} s")
            time.sleep(pause_s)
            lock_ms = LOCK_TIMEOUTS_MS[min(n_tries + 1, len(LOCK_TIMEOUTS_MS) - 1)]
            if watching.behind_vacuum and may_end_vacuum:
                # Only once: a VACUUM by hand, or one against wraparound, is not cancelled.
                lock_ms, may_end_vacuum = AUTOVACUUM_LOCK_TIMEOUT_MS, False

    @contextmanager
    def timeouts(self, lock_ms: int, statement_ms: int) -> Iterator[None]:
        """Set the timeouts for a while."""
        before = self._timeouts
        self.set_timeouts(lock_ms, statement_ms)
        try:
            yield
        finally:
            # A connection that was lost keeps no settings.
            with suppress(psycopg.Error):
                self.set_timeouts(*before)

    def set_timeouts(self, lock_ms: int, statement_ms: int) -> None:
        """Set the timeouts of the connection, outside any transaction."""
        if (lock_ms, statement_ms) == self._timeouts or self.connection.invalidated:
            return
        driver = self._driver
        with _autocommit(driver):
            for statement in timeouts(lock_ms, statement_ms):
                driver.execute(statement)
        self._timeouts = (lock_ms, statement_ms)

    @property
    def _driver(self) -> psycopg.Connection[Any]:
        return self.connection.connection.dbapi_connection  # type: ignore[return-value]

    @property
    def _pid(self) -> int:
        return self._driver.info.backend_pid

    def _roll_back(self) -> None:
        if not self.connection.invalidated:
            with suppress(psycopg.Error):
                self._driver.rollback()


class Writing:
    """Writes the statements that :class:`Running` would run, with the reasons as comments."""

    def __init__(
        self, write: Say, definitions: Definitions, *, patience: str = "--patience"
    ) -> None:
        self._write = write
        self.definitions = definitions

    def note(self, text: str) -> None:
        """Write a comment."""
        self._write(f"-- {text}")

    def brief(self, what: str, *statements: str) -> None:
        """Write the statements of a transaction."""
        self.note(f"{what}: brief; tried again while its lock is not free")
        for statement in ("BEGIN", *statements, "COMMIT"):
            self._write(f"{statement};")

    def long(self, what: str, statement: str) -> None:
        """Write a statement without timeouts."""
        self.note(f"{what}: long; blocks no reader or writer, waits for older transactions")
        for each in (
            *timeouts(0, 0),
            statement,
            *timeouts(LOCK_TIMEOUTS_MS[0], STATEMENT_TIMEOUT_MS),
        ):
            self._write(f"{each};")

    def batches(self, what: str, table: str, change: str, where: str, key: Sequence[str]) -> None:
        """Write the statements of a batch."""
        fill = backfill.Backfill(table, change, where, tuple(key))
        self.note(
            f"{what}: in batches of some thousand rows, each committed, until no row is left; the"
            " first parameters are the last key of the batch before (the first batch has none)"
        )
        for each in (
            *timeouts(LOCK_TIMEOUTS_MS[0], 0),
            backfill.numbered(fill.find(after=True)),
            backfill.numbered(fill.update(after=True)),
            *timeouts(LOCK_TIMEOUTS_MS[0], STATEMENT_TIMEOUT_MS),
        ):
            self._write(f"{each};")


@contextmanager
def _autocommit(driver: psycopg.Connection[Any]) -> Iterator[None]:
    """Let the driver begin no transaction for a while; nothing inside one that is open."""
    if driver.autocommit or driver.info.transaction_status != TransactionStatus.IDLE:
        yield
        return
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False
