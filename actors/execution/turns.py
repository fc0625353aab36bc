"""Let short work pass between the pieces of long work.

A recording may take minutes to decode. Its run gives the turn back every few seconds: the same
thread then does what else is due and short, in the fair order of the database, and continues. So a
recording with many samples delays those of others by a few seconds, even if there is one worker.
The run keeps its claim meanwhile, and its deadline does not run. So its message may stay unacked
for longer than RabbitMQ waits (30 minutes): then it comes again, and finds the row claimed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from actors.execution.lease import Lease
from actors.messaging.messages import Nudge

log = structlog.get_logger(__name__)

#: How long a run works before it gives the turn back, and how long others may then work before they
#: begin nothing more. Shorter lets others wait less; each turn costs a statement for each kind of
#: short work.
TURN_S = 2.0


class Turns:
    """Gives turns to short work, in the threads of one process.

    ``take_due`` returns a message for each kind of short work that is due, and ``handle`` does the
    work of one. Both are set by the worker; without them no turn is given.
    """

    def __init__(self) -> None:
        self.take_due: Callable[[], Sequence[Nudge]] | None = None
        self.handle: Callable[[Nudge], None] | None = None
        self._is_stopped = False
        self._of_thread = threading.local()

    def stop(self) -> None:
        """Give no more turns: the process is about to stop, and begins nothing new."""
        self._is_stopped = True

    def give(self, lease: Lease) -> None:
        """Do short work, if the run of a claim has worked for long enough since the last turn.

        Cheap, so that it can be called often. What was let pass lets nothing pass in turn.
        """
        mine = self._of_thread
        if self.take_due is None or self._is_stopped or getattr(mine, "is_given", False):
            return
        if getattr(mine, "lease", None) is not lease:
            mine.lease, mine.next_at_s = lease, TURN_S
        if lease.held_s < mine.next_at_s:
            return
        mine.is_given = True
        try:
            with lease.suspended():
                self._do_what_is_due(self.take_due)
        finally:
            mine.is_given = False
            mine.next_at_s = lease.held_s + TURN_S
        lease.check()

    def _do_what_is_due(self, take_due: Callable[[], Sequence[Nudge]]) -> None:
        assert self.handle is not None
        began = time.monotonic()
        try:
            while (due := take_due()) and not self._is_stopped:
                for nudge in due:
                    self.handle(nudge)
                if time.monotonic() - began > TURN_S:
                    break
        except Exception as error:
            # Postgres is unavailable. A failure of the work itself is stored by its run.
            log.warning("turn_not_given", error=type(error).__name__)
