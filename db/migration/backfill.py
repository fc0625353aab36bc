"""Change many rows in batches, each of which is committed."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from db.migration.errors import MigrationError

if TYPE_CHECKING:
    from db.migration.execution import Running

#: Rows of the first batch, and bounds of the others.
FIRST_ROWS, FEWEST_ROWS, MOST_ROWS = 1_000, 100, 10_000
#: A writer that needs a row of a batch waits until its end.
BATCH_S = 0.1
#: The interval between two lines of progress.
LINE_S = 5.0
#: Rows inserted behind the position of a pass are found by the next one.
MOST_PASSES = 10


@dataclass(frozen=True)
class Backfill:
    """The rows to change, in the order of their key, and how.

    Parameters
    ----------
    change
        What follows ``SET``. It must make the condition false, so that an interrupted backfill
        continues with the rows that are left.
    where
        The condition of the rows to change.
    key
        The columns of the primary key.
    """

    table: str
    change: str
    where: str
    key: tuple[str, ...]

    @property
    def _columns(self) -> str:
        return ", ".join(self.key)

    @property
    def _values(self) -> str:
        return ", ".join("%s" for _ in self.key)

    def find(self, *, after: bool) -> str:
        """Return the query for the key at the end of a batch."""
        columns = self._columns
        start = f" AND ({columns}) > ({self._values})" if after else ""
        # The SQL is that of a revision.
        return (
            f"SELECT {columns} FROM (SELECT {columns} FROM {self.table}"  # noqa: S608
            f" WHERE ({_escaped(self.where)}){start} ORDER BY {columns} LIMIT %s) AS batch"
            f" ORDER BY {', '.join(f'{each} DESC' for each in self.key)} LIMIT 1"
        )

    def update(self, *, after: bool) -> str:
        """Return the statement that changes a batch."""
        start = f" AND ({self._columns}) > ({self._values})" if after else ""
        return (
            f"UPDATE {self.table} SET {_escaped(self.change)}"  # noqa: S608
            f" WHERE ({_escaped(self.where)}){start} AND ({self._columns}) <= ({self._values})"
        )


def run(execution: Running, what: str, fill: Backfill) -> None:
    """Change the rows until a pass over the table finds none.

    Raises
    ------
    MigrationError
        If rows to change keep appearing.
    """
    progress = _Progress(execution, what)
    for _ in range(MOST_PASSES):
        if not _pass(execution, what, fill, progress):
            return
    raise MigrationError(
        f"{what}: after {MOST_PASSES} passes there are still rows to change. The change must make"
        " its condition false, and new rows need a default or a trigger before the backfill"
    )


def numbered(statement: str) -> str:
    """Return a statement as the server gets it: ``$1`` for the first parameter, and so on."""
    numbers = itertools.count(1)
    return re.sub("%%|%s", lambda it: "%" if it[0] == "%%" else f"${next(numbers)}", statement)


class _Progress:
    """Prints the number of changed rows every few seconds."""

    def __init__(self, execution: Running, what: str) -> None:
        self._execution, self._what = execution, what
        self._began_at = self._said_at = time.monotonic()
        self.n_rows = 0

    def add(self, n_rows: int) -> None:
        self.n_rows += n_rows
        now = time.monotonic()
        if now - self._said_at >= LINE_S:
            self._said_at = now
            age_s = now - self._began_at
            self._execution.say(f"{self._what}: {self.n_rows:,} rows changed, {age_s:.0f} s")


def _pass(execution: Running, what: str, fill: Backfill, progress: _Progress) -> bool:
    """Walk the table once; return whether any row had to be changed."""
    after: Sequence[Any] = ()
    n_rows, found = FIRST_ROWS, False
    while last := _end(execution, fill, after, n_rows):
        found = True
        began_at = time.monotonic()
        values = (*after, *last)
        statement = fill.update(after=bool(after))

        def change(statement: str = statement, values: Sequence[Any] = values) -> None:
            progress.add(execution.execute(statement, values).rowcount)

        execution.patiently(what, change)
        after = last
        # The time includes a wait for locked rows, after which smaller batches are right, too.
        took_s = time.monotonic() - began_at
        if took_s > BATCH_S:
            n_rows = max(n_rows // 2, FEWEST_ROWS)
        elif took_s < BATCH_S / 2:
            n_rows = min(n_rows * 2, MOST_ROWS)
    return found


def _end(execution: Running, fill: Backfill, after: Sequence[Any], n_rows: int) -> tuple[Any, ...]:
    row = execution.execute(fill.find(after=bool(after)), (*after, n_rows)).one_or_none()
    return () if row is None else tuple(row)


def _escaped(sql: str) -> str:
    """Return SQL for a statement with parameters."""
    return sql.replace("%", "%%")
