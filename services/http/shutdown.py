"""Detect that this process is shutting down, so that minutes-long responses can end early."""

from __future__ import annotations

import os
import signal
import threading

SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT))


def at_signal() -> threading.Event:
    """Return an event that a stop signal to this process sets; call it in the main thread.

    The server installs its signal handlers after the application is built, and then waits for all
    responses to end. So this installs no handler: it reads Python's wakeup file descriptor, which
    reports every signal that has one.
    """
    stopping = threading.Event()
    listening, noting = os.pipe()
    os.set_blocking(noting, False)
    signal.set_wakeup_fd(noting, warn_on_full_buffer=False)

    def listen() -> None:
        while not SIGNALS.intersection(os.read(listening, 64)):
            pass
        stopping.set()

    threading.Thread(target=listen, name="stopping", daemon=True).start()
    return stopping
