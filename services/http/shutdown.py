"""Knowing that this process is asked to stop, for answers that would go on for minutes."""

from __future__ import annotations

import os
import signal
import threading

SIGNALS = frozenset((signal.SIGTERM, signal.SIGINT))


def at_signal() -> threading.Event:
    """An event that is set once a signal asks this process to stop; called in its main thread.

    The server installs handlers of its own after the application is made, and then waits until
    every answer has ended. So this handles no signal: it listens where Python notes each one that
    has a handler.
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
