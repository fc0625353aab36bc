"""The deadlines of actors, and how a run that exceeds its deadline is stopped.

Three guards, each for cases that the one before cannot stop:

1. At the deadline, :meth:`actors.execution.lease.Lease.check` raises, where the work calls it.
2. Half of `GRACE_S` later, dramatiq's time limit raises in any other Python code.
3. `GRACE_S` after the deadline, this watchdog exits the process: native code (a decoder, a hanging
   file system) sees no exception. The reason is stored in the row if Postgres accepts it; the row
   is claimed again, and given up after the last attempt without another run.

Native code may also hold the GIL, so that no Python thread runs, not even the watchdog's. For this
case the kernel sends a signal after twice the grace. Its handler is not Python code: it prints the
stack of every thread and exits.

A process that the actors share with the API (``clamor up``) does not exit: the watchdog logs the
run, and another thread claims the row.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from actors.execution.run_log import ActorRun
from actors.messaging import kinds
from actors.messaging.messages import Nudge
from db.settings import Settings

log = structlog.get_logger(__name__)

GRACE_S = 10.0
#: How long storing the reason in Postgres may take before the process exits without it.
LAST_WORDS_S = 5.0
#: The exit code after a stuck run. The C library calls the signal handler, which is ``_exit``, with
#: the number of the signal.
EXIT_CODE = int(signal.SIGALRM)


def deadline_s(nudge: type[Nudge], settings: Settings) -> float:
    """Return how long a run of an actor may take."""
    return min(kinds.kind_of(nudge).deadline_s, settings.deadline_s)


def limit_s(nudge: type[Nudge], settings: Settings) -> float:
    """Return the time after which dramatiq interrupts a run."""
    return deadline_s(nudge, settings) + GRACE_S / 2


def silent_after_s(settings: Settings) -> float:
    """Return how long after the end of a row a worker that once claimed it may still be running."""
    longest_s = max(deadline_s(kind.message, settings) for kind in kinds.KINDS)
    return longest_s + 2 * GRACE_S + settings.lease_s


class Watchdog:
    """Watches the runs of one process.

    ``leaves``: it may exit the process. Such a process runs one actor at a time and nothing else.
    """

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves
        if leaves:
            _leave_at_alarm()

    @contextmanager
    def over(
        self, run: ActorRun, deadline_s: float, give_back: Callable[[str], object] | None = None
    ) -> Iterator[None]:
        """Watch over a block. ``give_back`` stores the reason in the row, if there is one."""
        timer = threading.Timer(deadline_s + GRACE_S, self._bite, (run, deadline_s, give_back))
        timer.name, timer.daemon = "watchdog", True
        timer.start()
        if self._leaves:
            signal.setitimer(signal.ITIMER_REAL, deadline_s + 2 * GRACE_S)
        try:
            yield
        finally:
            timer.cancel()
            if self._leaves:
                signal.setitimer(signal.ITIMER_REAL, 0)

    def _bite(
        self, run: ActorRun, deadline_s: float, give_back: Callable[[str], object] | None
    ) -> None:
        reason = f"it did not end within {deadline_s:g} s, and did not yield"
        run.end("stuck", error=reason, leaves=self._leaves)
        if give_back is not None:
            # In a separate thread, since Postgres may be what does not respond.
            words = threading.Thread(target=_try, args=(give_back, reason), daemon=True)
            words.start()
            words.join(LAST_WORDS_S)
        if self._leaves:
            os._exit(EXIT_CODE)


def _try(give_back: Callable[[str], object], reason: str) -> None:
    try:
        give_back(reason)
    except Exception as error:
        # The lease expires without it.
        log.warning("reason_not_kept", error=type(error).__name__)


def _leave_at_alarm() -> None:
    """Handle SIGALRM in the C library: print the stack of every thread, then call ``_exit``."""
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(signal.SIGALRM, ctypes.cast(library._exit, ctypes.c_void_p))
    # File descriptor 2: dramatiq replaces Python's ``sys.stderr`` by a pipe to its master.
    faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=True)
