"""Questions that may take long, or fail, asked so that nobody waits for them for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

#: How long whoever asks waits for an answer. A probe of Kubernetes waits for three seconds, and
#: Prometheus for ten.
PATIENCE_S = 2.0

T = TypeVar("T")


class CachedProbe(Generic[T]):
    """The latest answer to a question which may take long, or fail.

    It is asked in a thread of its own, one at a time. Whoever wants the answer waits for a while
    from when it was asked, and not any longer for having come later.
    """

    def __init__(self, name: str, question: Callable[[], T], *, fresh_s: float) -> None:
        self._name = name
        self._question = question
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None
        self._asked_at = 0.0

    def ask(self) -> Future[T]:
        """Ask, unless the question is being asked or its answer is still fresh."""
        with self._lock:
            is_old = time.monotonic() - self._asked_at > self._fresh_s
            if self._answer is None or (self._answer.done() and is_old):
                self._answer, self._asked_at = Future(), time.monotonic()
                threading.Thread(
                    target=self._find_out, args=(self._answer,), name=self._name, daemon=True
                ).start()
            return self._answer

    def get(self) -> T | None:
        """The answer, or None if there is none in time."""
        answer = self.ask()
        try:
            return answer.result(max(self._asked_at + PATIENCE_S - time.monotonic(), 0))
        except Exception:
            # What went wrong was logged where it did; that it takes too long shows by itself.
            return None

    def _find_out(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._question())
        except Exception as error:
            log.warning("question_failed", question=self._name, error=type(error).__name__)
            answer.set_exception(error)
