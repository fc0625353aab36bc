"""Bound the calls to a file system that may hang.

A file system whose server is gone (NFS) blocks each call until it is back, and nothing interrupts
one. So other threads make the calls, and their callers leave behind a thread that takes too long.
"""

from __future__ import annotations

import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Generic, TypeVar, cast

from db.blobs.breaker import StoreBreaker
from db.blobs.errors import hanging

T = TypeVar("T")

#: What a call may take longer for each byte that it flushes: 4 MiB a second, a slow disk.
SECONDS_A_BYTE = 0.25 / 1024**2


class Call(Generic[T]):
    """A call that another thread makes. A future would take twice as long."""

    __slots__ = ("_do", "_ended", "_error", "_on_late_end", "_result")

    def __init__(self, do: Callable[[], T]) -> None:
        self._do = do
        self._ended = threading.Lock()
        self._ended.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._on_late_end: Callable[[], None] | None = None

    def make(self) -> None:
        """Make it, and keep its outcome."""
        try:
            self._result = self._do()
        except BaseException as error:
            self._error = error

    def end(self) -> None:
        """Let the caller continue."""
        self._ended.release()
        if self._on_late_end is not None:
            self._on_late_end()

    def wait(self, timeout_s: float, *, on_late_end: Callable[[], None]) -> bool:
        """Return whether it ends in time; ``on_late_end`` is called if it ends later."""
        if self._ended.acquire(timeout=timeout_s):
            return True
        self._on_late_end = on_late_end
        # Or just now.
        return self._ended.acquire(blocking=False)

    def outcome(self) -> T:
        """Return its result, or raise its error, once it has ended."""
        if self._error is not None:
            raise self._error
        return cast(T, self._result)


class CallThreads:
    """Threads that make calls: one for each call under way. Idle ones are used again.

    The process does not wait for them at its end.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: Threads that have no call yet.
        self._n_idle = 0
        self._own = threading.local()

    @property
    def has_current(self) -> bool:
        """Whether the current thread is one of these."""
        return getattr(self._own, "is_own", False)

    def start(self, do: Callable[[], T]) -> Call[T]:
        """Start a call."""
        call = Call(do)
        with self._lock:
            has_idle = self._n_idle > 0
            self._n_idle -= has_idle
        self._calls.put(call)
        if not has_idle:
            threading.Thread(target=self._run, name="files", daemon=True).start()
        return call

    def _run(self) -> None:
        self._own.is_own = True
        while True:
            call = self._calls.get()
            call.make()
            with self._lock:
                # Before the caller continues, so that its next call finds this thread.
                self._n_idle += 1
            call.end()
            # A file that no caller has any more is closed now.
            del call


class FileCalls:
    """Makes calls to a file system. One that takes too long ends with ``StorageUnavailable``.

    Further calls then fail at once, but one after each pause (:mod:`db.blobs.breaker`), until one
    returns, be it one that was left behind. The pauses grow without a bound: each such attempt may
    leave one more thread behind, about 15 in ten hours.

    A call that was left behind may still take effect when the file system is back.
    """

    def __init__(self, *, answer_s: float) -> None:
        self._answer_s = answer_s
        self._threads = CallThreads()
        self._breaker = StoreBreaker(most_pause_s=math.inf)

    def run(self, do: Callable[[], T], *, n_bytes: int = 0) -> T:
        """Return the result of a call, which may flush this many bytes.

        Raises
        ------
        StorageUnavailable
            If it takes too long, or one has just done so.
        """
        if self._threads.has_current:
            return do()
        self._breaker.admit()
        call = self._threads.start(do)
        timeout_s = self._answer_s + n_bytes * SECONDS_A_BYTE
        if not call.wait(timeout_s, on_late_end=self._breaker.note_answer):
            self._breaker.note_failure()
            raise hanging()
        self._breaker.note_answer()
        return call.outcome()

    @contextmanager
    def entered(
        self, context: AbstractContextManager[T], *, n_bytes: Callable[[], int]
    ) -> Iterator[T]:
        """Enter and exit a context by calls; the exit may flush as many bytes as given by then."""
        value = self.run(context.__enter__)
        try:
            yield value
        except BaseException:
            # Cleans up once the file system is back, if it hangs.
            left = self._threads.start(partial(context.__exit__, *sys.exc_info()))
            timeout_s = 0.0 if self._breaker.is_open else self._answer_s
            left.wait(timeout_s, on_late_end=self._breaker.note_answer)
            raise
        self.run(partial(context.__exit__, None, None, None), n_bytes=n_bytes())
