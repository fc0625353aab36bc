"""Store blobs in another thread while the process computes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, wait

#: Stores the blob of a key.
Put = Callable[[str, bytes], None]
#: Completes the storing of some blobs.
Finish = Callable[[Iterable[str]], None]


class Behind:
    """Stores the blobs of some keys by a thread of an executor, one after the other.

    ``put`` stores one. ``finish`` completes them all, once each key has its blob. After an error
    nothing more is stored.
    """

    def __init__(self, threads: Executor, keys: Iterable[str], *, put: Put, finish: Finish) -> None:
        self._threads = threads
        self._left = set(keys)
        self._put = put
        self._finish = finish
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._stored: list[str] = []
        self._jobs: list[Future[None]] = []
        self._is_running = False

    def put(self, key: str, content: bytes) -> None:
        """Store a blob soon."""
        with self._lock:
            self._left.discard(key)
            self._waiting.append((key, content))
            # To wake a thread takes longer than to leave it one more blob.
            if self._is_running:
                return
            self._is_running = True
        self._jobs.append(self._threads.submit(self._run))

    def wait(self) -> None:
        """Wait until all blobs are stored, or could not be."""
        wait(self._jobs)

    def check(self) -> None:
        """Complete the blobs if not each key has one; call :meth:`wait` before.

        Raises the error of a blob that could not be stored.
        """
        for each in self._jobs:
            each.result()
        if self._left and self._stored:
            self._finish(self._stored)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    break
                key, content = self._waiting.popleft()
            self._put(key, content)
            self._stored.append(key)
            if not self._left and not self._waiting:
                self._finish(self._stored)
