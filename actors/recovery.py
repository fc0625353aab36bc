"""Recovery: nudge stalled work items, and remove leftover blobs of ended sessions and removed rows.

A thread in every worker process; an advisory lock lets one of them work at a time. A lost message,
a dead worker, a purged broker, a retry that has become due and a message for which a queue had no
room all look the same here: a row that is due, while too few messages wait in the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from actors.execution import failures, watchdog
from actors.execution.runtime import Runtime
from actors.maintenance import removals
from actors.messaging import kinds
from actors.messaging.kinds import WorkKind
from actors.messaging.messages import Nudge
from actors.messaging.queue_room import Level
from actors.scheduling import job_runs
from db import ownership
from db.blobs.keys import session_prefix
from db.queries import (
    clock_queries,
    leftover_queries,
    queue_queries,
    removed_blob_queries,
    session_queries,
)
from db.queries.leftover_queries import Leftovers

log = structlog.get_logger(__name__)

#: A row is nudged again if it is still due this long after its last message. Sooner finds a lost
#: message sooner; later leaves more time to a worker that has one and has not begun.
UNNUDGED_S = 5.0
#: How long a round waits for the broker's count of messages.
LEVELS_S = 10.0
#: Sessions, and removed rows, a round whose leftover blobs are removed.
LEFTOVERS_A_ROUND = 200
#: Rows per kind of work and poll of one worker without a broker. More are polled less often; fewer
#: leave more to other workers, which poll the same rows.
POLLED_ROWS = 4
#: The kinds of work that may pass between the pieces of longer work.
SHORT = tuple(kind for kind in kinds.KINDS if kind.is_short)
#: A tick this late counts as missed, and recovery fills its slot. The scheduler drops its own ticks
#: at half of this.
LATE_S = 60.0
#: The database's clock was set back if it lost this much against that of the process between two
#: rounds. More than slewing loses in an hour.
SET_BACK_S = 5.0


def take_stalled(
    tx: Session,
    *,
    unnudged_s: float,
    limit: int | Callable[[WorkKind], int],
    of: Sequence[WorkKind] | None = None,
) -> list[Nudge]:
    """Return nudges for the rows that are unfinished, due and not nudged recently; mark the rows.

    Of all kinds of work, or of those in ``of``; at most ``limit`` per kind: a long backlog of one
    kind must not hide the rows of another. Their order is irrelevant: a worker that reads a nudge
    for a session or a span claims the one that is next.
    """
    return [
        kind.message(**names)
        for kind in (kinds.KINDS if of is None else of)
        if (most := limit if isinstance(limit, int) else limit(kind)) > 0
        for names in queue_queries.take_stalled(tx, kind.rows, unnudged_s=unnudged_s, limit=most)
    ]


def _missing(tx: Session, level: Level, kind: WorkKind) -> int:
    """Return how many messages a queue lacks: one per due row, and no more than it has room for."""
    if not level.waiting or not level.free:
        return level.free
    return queue_queries.count_due(tx, kind.rows, limit=level.most) - level.waiting


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
        # Before the transaction, which must not wait for the broker.
        levels = self._levels()
        with self._runtime.store.transaction() as tx:
            if not session_queries.try_recovery_lock(tx):
                return []
            self._mend_times(tx)
            job_runs.fill_missed(tx, late_s=self._late_s)
            nudges = self._take_unnudged(tx, levels)
            left = leftover_queries.sessions_with_leftovers(
                tx, silent_after_s=self._silent_after_s, limit=LEFTOVERS_A_ROUND
            )
            removed = removed_blob_queries.removed_prefixes(
                tx, silent_after_s=self._silent_after_s, limit=LEFTOVERS_A_ROUND
            )
        if nudges:
            log.info("recovery_nudges", rows=len(nudges))
            self._runtime.publisher.send(*nudges)
        for each in left:
            self._purge(each)
        if removed:
            self._purge_removed(removed)
        return nudges

    def take_due(self) -> list[Nudge]:
        """Return nudges for rows that are due, for a worker that cannot reach the broker."""
        with self._runtime.store.transaction() as tx:
            return take_stalled(tx, unnudged_s=0.0, limit=POLLED_ROWS)

    def take_short(self) -> list[Nudge]:
        """Return a nudge for each kind of short work that is due, for a run that lets it pass."""
        with self._runtime.store.transaction() as tx:
            return take_stalled(tx, unnudged_s=0.0, limit=1, of=SHORT)

    def _levels(self) -> Mapping[type[Nudge], Level] | None:
        """Count the messages that wait; None while the broker is away.

        Every worker process does, also one that will not get the lock: it notices a broker that
        stands still.
        """
        counted = self._runtime.publisher.levels(kind.message for kind in kinds.KINDS)
        try:
            return counted.result(LEVELS_S)
        except (TimeoutError, CancelledError):
            return None

    def _take_unnudged(
        self, tx: Session, levels: Mapping[type[Nudge], Level] | None
    ) -> list[Nudge]:
        """Return the nudges that the queues lack; none while the broker is away: workers poll."""
        if levels is None:
            return []
        unnudged_s = min(UNNUDGED_S, self._runtime.settings.lease_s)
        return take_stalled(
            tx,
            unnudged_s=unnudged_s,
            limit=lambda kind: _missing(tx, levels[kind.message], kind),
        )

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

    def _purge_removed(self, prefixes: Sequence[str]) -> None:
        """Remove the blobs of removed rows, unless the store is that of another database.

        Another database, of which this one is a copy, may still have the rows.
        """
        store, blobs = self._runtime.store, self._runtime.blobs
        reason = ownership.objection(ownership.of_database(store), ownership.of_blobs(blobs))
        if reason is not None:
            log.warning("removed_blobs_not_ours", reason=reason)
            return
        n_blobs = removals.purge(self._runtime, prefixes)
        log.info("removed_blobs", rows=len(prefixes), blobs=n_blobs)

    def _run(self) -> None:
        while not self._stopped.wait(self._runtime.settings.recovery_s):
            try:
                self.round()
            except Exception as error:
                # Postgres or the blob store is unavailable: the next round finds the same rows.
                log.warning("recovery_round_failed", error=type(error).__name__)
