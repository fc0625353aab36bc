"""Throttled, fenced progress updates; failures to write them are ignored."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy.orm import Session

from actors.execution.failures import ClaimLost
from actors.execution.lease import Lease
from actors.execution.runtime import Runtime
from db.queries import model_queries
from db.queries.model_queries import JobWork

log = structlog.get_logger(__name__)

#: Shortest interval between two updates, and before the first: each is a transaction.
EVERY_S = 1.0
#: The interval after an update that failed, so that the work does not wait for an unavailable
#: Postgres every second.
AWAY_S = 10.0


class Teller:
    """Write progress updates, and stop work that is no longer needed (:meth:`Lease.check`)."""

    def __init__(self, runtime: Runtime, lease: Lease) -> None:
        self._runtime = runtime
        self._lease = lease
        self._next_at = time.monotonic() + EVERY_S

    def tell(self, note: Callable[[Session], bool], *, at_once: bool = False) -> None:
        """Call ``note`` if an update is due. It returns whether the claim is still held."""
        self._lease.check()
        if time.monotonic() < self._next_at and not at_once:
            return
        try:
            with self._runtime.store.transaction() as tx:
                held = note(tx)
        except Exception as error:
            # Postgres is unavailable: the work continues, and a later update may succeed.
            log.warning("progress_not_told", error=type(error).__name__)
            self._next_at = time.monotonic() + AWAY_S
            return
        self._next_at = time.monotonic() + EVERY_S
        if not held:
            raise ClaimLost


class Bar:
    """Write the progress of a job, and stop one that is no longer needed (:meth:`Lease.check`)."""

    def __init__(self, runtime: Runtime, work: JobWork, lease: Lease) -> None:
        self._teller = Teller(runtime, lease)
        self._work = work
        self._attempt = lease.attempt
        self._stage = ""

    def tell(self, fraction: float, stage: str) -> None:
        """Report that ``fraction`` of the job, in [0, 1], is done and ``stage`` is running."""
        is_new, self._stage = stage != self._stage, stage
        percent = round(100 * min(max(fraction, 0.0), 1.0))
        self._teller.tell(
            lambda tx: model_queries.note_progress(
                tx, self._work, attempt=self._attempt, percent=percent, stage=stage
            ),
            at_once=is_new,
        )

    def part(self, start: float, stop: float) -> Callable[[float, str], None]:
        """Return a function that reports progress within ``[start, stop]`` of this bar."""
        return lambda fraction, stage: self.tell(start + fraction * (stop - start), stage)
