"""The scheduler process: periodiq, which sends the ticks of ``actors/scheduling/jobs.py``.

TZ=UTC python -m actors.scheduling.scheduler actors.scheduling.boot:boot
"""

from __future__ import annotations

import os
import signal
import threading

import periodiq

from actors.observability.logs import configure
from db.settings import from_environment

STOP_SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT))


def main() -> None:
    """Send ticks until a signal arrives."""
    exit_at_signal()
    configure(from_environment().log_level)
    periodiq.entrypoint()


def exit_at_signal() -> None:
    """Exit with code 0 at the first SIGTERM or SIGINT, whatever this process is doing.

    periodiq handles neither, and PID 1 receives no signal that it does not handle. A thread waits
    for them, since a handler would run only after the current call of the main thread: a DNS
    lookup can take half a minute. Recovery fills the slot of a lost tick.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def wait() -> None:
        signal.sigwait(STOP_SIGNALS)
        os._exit(0)

    threading.Thread(target=wait, name="stopping", daemon=True).start()


if __name__ == "__main__":
    main()
