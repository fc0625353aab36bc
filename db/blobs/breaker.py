"""Spare callers the wait for a store that does not answer.

A call fails only after a while. Without this, each step of each recording would wait as long, one
after the other, and so would each request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from db.blobs.errors import BlobError, BlobMissing, StorageUnavailable

#: The pause after the first failure; each further one doubles it.
FIRST_PAUSE_S = 1.0
#: The longest pause of a bucket. Longer costs fewer calls in an outage, and more time after it.
MOST_PAUSE_S = 15.0


class StoreBreaker:
    """Refuses calls at once after one has failed, but one after each pause, until one succeeds."""

    def __init__(self, *, most_pause_s: float = MOST_PAUSE_S) -> None:
        self._most_pause_s = most_pause_s
        self._lock = threading.Lock()
        #: 0 while the store answers.
        self._pause_s = 0.0
        #: When the next call is let through, by the monotonic clock.
        self._next_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last call failed."""
        return self._pause_s > 0

    @contextmanager
    def call(self, *, is_probe: bool = False) -> Iterator[None]:
        """Make a call to the store in the block, unless one has just failed.

        A probe is always made, and ends the pause if it succeeds.

        Raises
        ------
        StorageUnavailable
            Without entering the block, during a pause.
        """
        if not is_probe:
            self.admit()
        try:
            yield
        except StorageUnavailable:
            self.note_failure()
            raise
        except (BlobError, BlobMissing):
            # An answer, about one blob.
            self.note_answer()
            raise
        self.note_answer()

    def admit(self) -> None:
        """Raise :class:`StorageUnavailable` during a pause."""
        if not self._pause_s:
            return
        with self._lock:
            if not self._pause_s:
                return
            now = time.monotonic()
            if now < self._next_at:
                raise StorageUnavailable("the blob store has not answered for a while")
            self._next_at = now + self._pause_s

    def note_failure(self) -> None:
        """Begin the next pause."""
        with self._lock:
            now = time.monotonic()
            # Calls that were under way together fail together: they are one failure.
            if now >= self._next_at:
                self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), self._most_pause_s)
                self._next_at = now + self._pause_s

    def note_answer(self) -> None:
        """End the pause: the store answers."""
        if not self._pause_s:
            return
        with self._lock:
            self._pause_s = 0.0
