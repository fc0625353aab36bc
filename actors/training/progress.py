"""How far a job is, written where the API reads it."""

from __future__ import annotations

from collections.abc import Callable

from actors.hold import Hold
from actors.progress import Teller
from actors.runtime import Runtime
from db import model_queries
from db.model_queries import JobWork


class Bar:
    """Tells how far a job is, and stops one that is in vain: see :meth:`Hold.check`."""

    def __init__(self, runtime: Runtime, work: JobWork, hold: Hold) -> None:
        self._teller = Teller(runtime, hold)
        self._work = work
        self._attempt = hold.attempt
        self._stage = ""

    def tell(self, fraction: float, stage: str) -> None:
        """``fraction`` of the job, in [0, 1], is done, and ``stage`` is under way."""
        is_new, self._stage = stage != self._stage, stage
        percent = round(100 * min(max(fraction, 0.0), 1.0))
        self._teller.tell(
            lambda db: model_queries.note_progress(
                db, self._work, attempt=self._attempt, percent=percent, stage=stage
            ),
            at_once=is_new,
        )

    def part(self, start: float, stop: float) -> Callable[[float, str], None]:
        """A bar of its own for ``[start, stop]`` of this one."""
        return lambda fraction, stage: self.tell(start + fraction * (stop - start), stage)
