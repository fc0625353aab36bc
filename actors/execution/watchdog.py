"""How long each actor may run, and what becomes of one that runs for longer.

Three guards, each for what the one before cannot stop:

1. At its deadline :meth:`actors.execution.lease.Hold.check` raises, where the work asks.
2. Half of `GRACE_S` later dramatiq's time limit raises in any other Python code.
3. `GRACE_S` after the deadline this watchdog leaves the process: native code (a decoder, a file
   system that hangs) sees no exception. The reason is kept in the row if Postgres takes it; the
   row is claimed again, and given up after the last attempt, without being run again.

Native code may also hold Python's lock, so that no thread of Python runs, the watchdog's neither.
For that the kernel is asked for a signal, at twice the grace, whose handler is no Python code: it
prints where every thread is, and leaves.

In a process that the actors share with the API (``clamor up``) nobody is left: the watchdog tells
of it, and the row is claimed by another thread.
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

from actors.execution.run_log import Run
from actors.messaging import messages
from actors.messaging.messages import Nudge
from db.settings import Settings

log = structlog.get_logger(__name__)

#: In seconds. RabbitMQ takes a consumer for dead that does not ack for 30 minutes: with the grace
#: none of these may come near it. ``CLAMOR_DEADLINE_S`` shortens them.
DEADLINES_S: dict[type[Nudge], float] = {
    # Fetches a recording that lies elsewhere (`audio/fetch.py`); of one that is here it reads the
    # head.
    messages.ProcessAudioFile: 900.0,
    # Decodes a day of audio at most.
    messages.SplitRecording: 1_500.0,
    # A minute of audio, which takes less than a second or two.
    messages.DetectSpan: 120.0,
    messages.AggregateSession: 900.0,
    # Reckons for a second or two, over a day of levels at most.
    messages.AnalyzeSession: 120.0,
    # Copies a page of recordings.
    messages.BatchProcessFiles: 1_500.0,
    # One request, which has an end of its own after ten seconds.
    messages.DeliverWebhook: 60.0,
    messages.TrainNoiseClassifier: 1_500.0,
    messages.ValidateModel: 1_500.0,
    messages.ExportSessionData: 1_500.0,
    # Adds up eight days, and draws.
    messages.GenerateDailyReport: 300.0,
    messages.StartDailyReports: 60.0,
    messages.CheckHealth: 60.0,
    messages.CleanUp: 1_500.0,
    messages.CleanUpOldSessions: 1_500.0,
    messages.CleanUpFailedSessions: 1_500.0,
    messages.VacuumDatabase: 1_500.0,
}
GRACE_S = 10.0
#: How long the reason may take to reach Postgres before the process is left without.
LAST_WORDS_S = 5.0
#: The exit code of a process that was left. The C library calls the handler of the signal with
#: its number, and the handler is ``_exit``.
EXIT_CODE = int(signal.SIGALRM)


def deadline_s(nudge: type[Nudge], settings: Settings) -> float:
    """How long a run of an actor may take."""
    return min(DEADLINES_S[nudge], settings.deadline_s)


def limit_s(nudge: type[Nudge], settings: Settings) -> float:
    """When dramatiq interrupts a run."""
    return deadline_s(nudge, settings) + GRACE_S / 2


def silent_after_s(settings: Settings) -> float:
    """How long after a row has ended nobody who once claimed it can still be at work."""
    longest_s = max(deadline_s(nudge, settings) for nudge in DEADLINES_S)
    return longest_s + 2 * GRACE_S + settings.lease_s


class Watchdog:
    """Watches the runs of one process.

    ``leaves`` says whether it may leave the process, which then is one that runs one actor at a
    time and does nothing else.
    """

    def __init__(self, *, leaves: bool) -> None:
        self._leaves = leaves
        if leaves:
            _leave_at_alarm()

    @contextmanager
    def over(
        self, run: Run, deadline_s: float, give_back: Callable[[str], object] | None = None
    ) -> Iterator[None]:
        """Watch over a block. ``give_back`` keeps the reason in the row, if there is one."""
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

    def _bite(self, run: Run, deadline_s: float, give_back: Callable[[str], object] | None) -> None:
        reason = f"it did not end within {deadline_s:g} s, and did not yield"
        run.end("stuck", error=reason, leaves=self._leaves)
        if give_back is not None:
            # By a thread of its own, since Postgres may be what does not answer.
            words = threading.Thread(target=_try, args=(give_back, reason), daemon=True)
            words.start()
            words.join(LAST_WORDS_S)
        if self._leaves:
            os._exit(EXIT_CODE)


def _try(give_back: Callable[[str], object], reason: str) -> None:
    try:
        give_back(reason)
    except Exception as error:
        # Then the lease ends by itself.
        log.warning("reason_not_kept", error=type(error).__name__)


def _leave_at_alarm() -> None:
    """Let the C library answer SIGALRM: print where every thread is, then call ``_exit``."""
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(signal.SIGALRM, ctypes.cast(library._exit, ctypes.c_void_p))
    # Standard error itself: dramatiq puts a pipe to its master in the place of Python's.
    faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=True)
