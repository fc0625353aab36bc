"""How far a job is, written where the API reads it."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from actors.failures import ClaimLost
from actors.hold import Hold
from actors.runtime import Runtime
from db import model_queries
from db.model_queries import JobWork

log = structlog.get_logger(__name__)

#: Not more often than this: each telling is a transaction.
EVERY_S = 1.0


class Bar:
    """Tells how far a job is, and stops one that is in vain: see :meth:`Hold.check`."""

    def __init__(self, runtime: Runtime, work: JobWork, hold: Hold) -> None:
        self._runtime = runtime
        self._work = work
        self._hold = hold
        self._told_at = 0.0
        self._stage = ""

    def tell(self, fraction: float, stage: str) -> None:
        """``fraction`` of the job, in [0, 1], is done, and ``stage`` is under way."""
        self._hold.check()
        now = time.monotonic()
        if stage == self._stage and now - self._told_at < EVERY_S:
            return
        self._stage, self._told_at = stage, now
        try:
            with self._runtime.store.transaction() as db:
                held = model_queries.note_progress(
                    db, self._work, attempt=self._hold.attempt,
                    percent=round(100 * min(max(fraction, 0.0), 1.0)), stage=stage,
                )  # fmt: skip
        except Exception as error:
            # Postgres is away: the work goes on, and the next telling may come through.
            log.warning("progress_not_told", error=type(error).__name__)
            return
        if not held:
            raise ClaimLost

    def part(self, start: float, stop: float) -> Callable[[float, str], None]:
        """A bar of its own for ``[start, stop]`` of this one."""
        return lambda fraction, stage: self.tell(start + fraction * (stop - start), stage)
