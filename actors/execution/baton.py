"""Let a fixed number of threads compute at a time, in the order in which they ask."""

from __future__ import annotations

from collections import deque
from threading import Condition


class Baton:
    """A semaphore whose waiters are served first come, first served.

    As a context manager it is held in a block, in which :meth:`pass_on` lets the next thread work.
    """

    def __init__(self, n_holders: int = 1) -> None:
        self._n_free = n_holders
        self._waiting: deque[object] = deque()
        self._changed = Condition()
        self._is_open = False

    def __enter__(self) -> None:
        mine = object()
        with self._changed:
            self._waiting.append(mine)
            try:
                self._changed.wait_for(
                    lambda: self._is_open or (self._n_free > 0 and self._waiting[0] is mine)
                )
                self._n_free -= 1
            finally:
                # Also if the wait was interrupted. Several holders may be free: the next one looks.
                self._waiting.remove(mine)
                self._changed.notify_all()

    def __exit__(self, *_failure: object) -> None:
        with self._changed:
            self._n_free += 1
            self._changed.notify_all()

    def pass_on(self) -> None:
        """Let all threads that wait now work before this one; return at once if there is none."""
        self.__exit__()
        try:
            self.__enter__()
        except BaseException:
            # Interrupted, in a block that holds the baton: its end returns what it has again.
            self.__enter__()
            raise

    def open(self) -> None:
        """End all waits, and let no thread wait again."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()
