"""Recovery: nudge stalled work items, and remove leftover blobs of sessions that have ended.

A thread in every worker process; an advisory lock lets one of them work at a time. A lost message,
a dead worker, a purged broker and a retry that has become due all look the same here: a row that
is due and was not nudged.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from actors.execution import failures, watchdog
from actors.execution.runtime import Runtime
from actors.messaging import kinds
from actors.messaging.messages import Nudge
from actors.scheduling import job_runs
from db.blobs.keys import session_prefix
from db.queries import clock_queries, leftover_queries, queue_queries, session_queries
from db.queries.leftover_queries import Leftovers

log = structlog.get_logger(__name__)

#: Rows per kind of work and round. Enough to refill every worker; few enough that a long backlog,
#: which is also due and not nudged, does not fill the queues with the same messages repeatedly.
ROWS_A_ROUND = 200
#: The same for one poll of one worker without a broker. More are polled less often; fewer leave
#: more to other workers, which poll the same rows.
POLLED_ROWS = 4
#: A tick this late counts as missed, and recovery fills its slot. The scheduler drops its own ticks
#: at half of this.
LATE_S = 60.0
#: The database's clock was set back if it lost this much against that of the process between two
#: rounds. More than slewing loses in an hour.
SET_BACK_S = 5.0


def take_stalled(tx: Session, *, unnudged_s: float, limit: int) -> list[Nudge]:
    """Return nudges for the rows that are unfinished, due and not nudged recently; mark the rows.

    At most ``limit`` per kind of work: a long backlog of one kind must not hide the rows of
    another. Their order is irrelevant: a worker that reads a nudge for a session or a span claims
    the one that is next.
    """
    return [
        kind.message(**names)
        for kind in kinds.KINDS
        for names in queue_queries.take_stalled(tx, kind.rows, unnudged_s=unnudged_s, limit=limit)
    ]


class DatabaseClock:
    """Measures how far the database's clock is set back."""

    def __init__(self) -> None:
        #: The last reading, and the time of this process after it.
        self._last: tuple[datetime, float] | None = None

    def set_back_s(self, tx: Session) -> float | None:
        """Return by how many seconds the clock was set back since the last call; None at first.

        A reading that takes long only makes the result smaller.
        """
        before = time.monotonic()
        now = session_queries.clock(tx)
        last, self._last = self._last, (now, time.monotonic())
        if last is None:
            return None
        return before - last[1] - (now - last[0]).total_seconds()


class Recovery:
    """Runs a round every few seconds until it is stopped."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._silent_after_s = watchdog.silent_after_s(runtime.settings)
        # Without a scheduler, recovery is the clock.
        self._late_s = 0.0 if runtime.settings.in_memory_broker else LATE_S
        self._clock = DatabaseClock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round."""
        self._stopped.set()
        self._thread.join()

    def round(self) -> list[Nudge]:
        """Run one round and return the nudges that were sent."""
        self._runtime.unreturned.give_back(self._runtime.store)
        with self._runtime.store.transaction() as tx:
            if not session_queries.try_recovery_lock(tx):
                return []
            self._mend_times(tx)
            job_runs.fill_missed(tx, late_s=self._late_s)
            unnudged_s = self._runtime.settings.lease_s
            nudges = take_stalled(tx, unnudged_s=unnudged_s, limit=ROWS_A_ROUND)
            left = leftover_queries.sessions_with_leftovers(
                tx, silent_after_s=self._silent_after_s, limit=ROWS_A_ROUND
            )
        if nudges:
            log.info("recovery_nudges", rows=len(nudges))
            self._runtime.publisher.send(*nudges)
        for each in left:
            self._purge(each)
        return nudges

    def take_due(self) -> list[Nudge]:
        """Return nudges for rows that are due, for a worker that cannot reach the broker."""
        with self._runtime.store.transaction() as tx:
            return take_stalled(tx, unnudged_s=0.0, limit=POLLED_ROWS)

    def _mend_times(self, tx: Session) -> None:
        """Pull back the times that a clock which was set back will not reach for long.

        The first round cannot compare, and pulls those that no wait of the product explains.
        """
        beyond_s = self._runtime.settings.lease_s
        set_back_s = self._clock.set_back_s(tx)
        rows = 0
        if set_back_s is None:
            beyond_s += failures.LONGEST_DELAY_S
        elif set_back_s >= SET_BACK_S:
            rows += clock_queries.pull_back_deliveries(tx, by_s=set_back_s)
        else:
            return
        for table in {kind.rows.table for kind in kinds.KINDS}:
            rows += clock_queries.pull_back(tx, table, beyond_s=beyond_s, by_s=set_back_s)
        if rows:
            log.warning("database_clock_set_back", set_back_s=set_back_s, rows=rows)

    def _purge(self, left: Leftovers) -> None:
        """Remove the blobs that an ended session no longer needs, then record the removal."""
        blobs, store = self._runtime.blobs, self._runtime.store
        keys = blobs.keys(session_prefix(left.session_id))
        with store.reading() as tx:
            # The session may have been retried since. A retry writes none of the keys listed above.
            if not leftover_queries.has_ended(tx, left.session_id):
                return
        blobs.delete(*(key for key in keys if key not in left.kept), *left.unneeded)
        with store.transaction() as tx:
            leftover_queries.note_purged(tx, left.session_id, silent_after_s=self._silent_after_s)

    def _run(self) -> None:
        while not self._stopped.wait(self._runtime.settings.recovery_s):
            try:
                self.round()
            except Exception as error:
                # Postgres or the blob store is unavailable: the next round finds the same rows.
                log.warning("recovery_round_failed", error=type(error).__name__)
