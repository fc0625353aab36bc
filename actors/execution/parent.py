"""End a process whose parent has died."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

#: From prctl(2): sets the signal that the kernel sends to this process when its parent ends.
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL.

    Does nothing in a process that multiprocessing did not start, and on systems other than Linux.
    Otherwise an orphan would keep claiming work beside its successor, and its log would be lost.
    Another worker claims the interrupted work once the lease has expired.

    The kernel watches the thread that started this process, so it must be the parent's main
    thread. This holds for dramatiq, granian and ``ProcessPoolExecutor``.
    """
    parent = multiprocessing.parent_process()
    if parent is None or sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent.pid:
        # The parent ended before the call of prctl.
        os.kill(os.getpid(), signal.SIGKILL)
