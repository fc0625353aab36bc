"""Watch a statement from a second connection: its progress, and what it waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

#: The first look at a statement: before the shortest lock timeout ends it.
FIRST_LOOK_S = 0.05
#: The interval between two lines about a long statement.
LINE_S = 5.0

BLOCKERS = text(
    """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type), state,
           extract(epoch FROM now() - xact_start)
    FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(:pid)) ORDER BY xact_start
    """
)
#: These views show the processes of all roles; ``pg_stat_activity`` does not say what others are.
BEHIND_VACUUM = text(
    """
    SELECT EXISTS (
        SELECT pid FROM pg_stat_progress_vacuum WHERE pid = ANY(pg_blocking_pids(:pid))
        UNION ALL
        SELECT pid FROM pg_stat_progress_analyze WHERE pid = ANY(pg_blocking_pids(:pid))
    )
    """
)
INDEX_PROGRESS = text(
    """
    SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total
    FROM pg_stat_progress_create_index WHERE pid = :pid
    """
)


class Watch:
    """The connections that hold back a statement, as of the latest look."""

    def __init__(self) -> None:
        self.blockers = ""
        #: Whether a vacuum, or an analyze, is among them.
        self.behind_vacuum = False


@contextmanager
def watched(
    engine: sqlalchemy.Engine, pid: int, what: str, say: Callable[[str], None] | None
) -> Iterator[Watch]:
    """Watch the server process ``pid``; ``say`` gets a line every few seconds.

    A statement of less than :data:`FIRST_LOOK_S` costs no second connection. Each look is a
    transaction that ends at once, since a concurrent build waits for open ones.
    """
    watch, ended = Watch(), threading.Event()
    thread = threading.Thread(
        target=_look, args=(engine, pid, what, say, watch, ended), name="watch", daemon=True
    )
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()


def _look(
    engine: sqlalchemy.Engine,
    pid: int,
    what: str,
    say: Callable[[str], None] | None,
    watch: Watch,
    ended: threading.Event,
) -> None:
    began_at = time.monotonic()
    if ended.wait(FIRST_LOOK_S):
        return
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            watch.blockers = _blockers(connection, pid)
            watch.behind_vacuum = connection.execute(BEHIND_VACUUM, {"pid": pid}).scalar_one()
            while say is not None and not ended.wait(LINE_S):
                watch.blockers = _blockers(connection, pid)
                say(f"{what}: {_progress(connection, pid, watch)}, {_age(began_at)}")
    except SQLAlchemyError:
        # The statement has its own connection, and its own error if the server is away.
        return


def _blockers(connection: Connection, pid: int) -> str:
    """Name the connections that a server process waits for; empty if it waits for none."""
    return ", ".join(
        f"process {other} ({name or 'unnamed'}, {state or 'state not visible'}"
        + (f", its transaction open for {age:.0f} s)" if age is not None else ")")
        for other, name, state, age in connection.execute(BLOCKERS, {"pid": pid})
    )


def _progress(connection: Connection, pid: int, watch: Watch) -> str:
    if watch.blockers:
        return f"waits for {watch.blockers}"
    row = connection.execute(INDEX_PROGRESS, {"pid": pid}).one_or_none()
    if row is None:
        return "running"
    phase, blocks_done, blocks_total, tuples_done, tuples_total = row
    done, total = (tuples_done, tuples_total) if tuples_total else (blocks_done, blocks_total)
    return f"{phase}, {100 * done / total:.0f} %" if total else phase


def _age(began_at: float) -> str:
    return f"{time.monotonic() - began_at:.0f} s"
