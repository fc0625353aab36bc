"""The deadlines of actors, and how a run that exceeds its deadline is stopped.

Three guards, each for cases that the one before cannot stop:

1. At the deadline, :meth:`actors.execution.lease.Lease.check` raises, where the work calls it.
2. Half of `GRACE_S` later, dramatiq's time limit raises in any other Python code.
3. `GRACE_S` after the deadline, this watchdog exits the process: native code (such as a decoder)
   sees no exception. The reason is stored in the row if Postgres accepts it; the row is claimed
   again, and given up after the last attempt without another run.

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from dramatiq.middleware import TimeLimit

from actors.execution.failures import DID_NOT_END
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


class RunClock:
    """The clocks of the guards over one run. As a context manager it stops them in a block."""

    def __init__(
        self,
        run: ActorRun,
        deadline_s: float,
        *,
        bite: Callable[[], None],
        leaves: bool,
        limit: TimeLimit | None,
    ) -> None:
        self._run = run
        self._left_s = deadline_s
        self._bite = bite
        self._leaves = leaves
        self._limit = limit
        self._started_at = self._stopped_at = 0.0
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Start the clocks with the time that is left."""
        self._started_at = time.monotonic()
        if self._limit is not None:
            left_ms = (self._left_s + GRACE_S / 2) * 1_000
            self._limit.manager.add_timeout(threading.get_ident(), left_ms)  # type: ignore[no-untyped-call]
        self._timer = threading.Timer(self._left_s + GRACE_S, self._bite)
        self._timer.name, self._timer.daemon = "watchdog", True
        self._timer.start()
        if self._leaves:
            signal.setitimer(signal.ITIMER_REAL, self._left_s + 2 * GRACE_S)

    def stop(self) -> None:
        """Stop the clocks."""
        assert self._timer is not None
        self._timer.cancel()
        _lift(self._limit)
        if self._leaves:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._stopped_at = time.monotonic()
        self._left_s = max(self._left_s - (self._stopped_at - self._started_at), 0.0)

    def __enter__(self) -> None:
        self.stop()

    def __exit__(self, *_failure: object) -> None:
        self._run.suspended_s += time.monotonic() - self._stopped_at
        self.start()


class Watchdog:
    """Watches the runs of one process.

    ``leaves``: it may exit the process. Such a process runs one actor at a time and nothing else.
    """

    def __init__(self, *, leaves: bool, limit: TimeLimit | None = None) -> None:
        self._leaves = leaves
        self._limit = limit
        if leaves:
            _leave_at_alarm()

    def lift_limit(self) -> None:
        """Lift dramatiq's time limit from this thread, until it has a run to watch over."""
        _lift(self._limit)

    @contextmanager
    def over(
        self, run: ActorRun, deadline_s: float, give_back: Callable[[str], object] | None = None
    ) -> Iterator[RunClock]:
        """Watch over a block. ``give_back`` stores the reason in the row, if there is one.

        The block may stop the clock with the yielded object, for a run within the run.
        """
        clock = RunClock(
            run,
            deadline_s,
            bite=lambda: self._bite(run, deadline_s, give_back),
            leaves=self._leaves,
            limit=self._limit,
        )
        clock.start()
        try:
            yield clock
        finally:
            clock.stop()

    def _bite(
        self, run: ActorRun, deadline_s: float, give_back: Callable[[str], object] | None
    ) -> None:
        reason = f"{DID_NOT_END} {deadline_s:g} s, and did not yield"
        run.end("stuck", error=reason, leaves=self._leaves)
        if give_back is not None:
            # In a separate thread, since Postgres may be what does not respond.
            words = threading.Thread(target=_try, args=(give_back, reason), daemon=True)
            words.start()
            words.join(LAST_WORDS_S)
        if self._leaves:
            os._exit(EXIT_CODE)


def _lift(limit: TimeLimit | None) -> None:
    if limit is not None:
        limit.manager.remove_timeout(threading.get_ident())  # type: ignore[no-untyped-call]


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
