"""The end of a process whose parent is gone."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

#: Of prctl(2): the signal that the kernel sends to this process when its parent ends.
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when the process that started it ends, also by SIGKILL.

    Does nothing in a process that multiprocessing did not start, and on systems other than Linux.
    What was under way is claimed by another worker once its lease has ended: an orphan would go on
    claiming work beside its successor, and its log would go nowhere.

    The kernel looks at the thread that started this process, so that must be the parent's main
    thread; it is in dramatiq, granian and ``ProcessPoolExecutor``.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent.pid:
        # It ended before the kernel was asked.
        os.kill(os.getpid(), signal.SIGKILL)
