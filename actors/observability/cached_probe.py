"""Run probes that may be slow or fail, with a bounded wait for their callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

#: How long a caller waits for an answer. Kubernetes probes time out after three seconds, and
#: Prometheus after ten.
PATIENCE_S = 2.0

T = TypeVar("T")


class CachedProbe(Generic[T]):
    """The latest result of a probe that may be slow or fail.

    The probe runs in a separate thread, one run at a time. Callers wait until `PATIENCE_S` after
    the start of the run, so later callers wait less.
    """

    def __init__(self, name: str, question: Callable[[], T], *, fresh_s: float) -> None:
        self._name = name
        self._question = question
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._answer: Future[T] | None = None
        self._asked_at = 0.0

    def ask(self) -> Future[T]:
        """Start the probe, unless it is running or its latest result is still fresh."""
        with self._lock:
            is_old = time.monotonic() - self._asked_at > self._fresh_s
            if self._answer is None or (self._answer.done() and is_old):
                self._answer, self._asked_at = Future(), time.monotonic()
                threading.Thread(
                    target=self._find_out, args=(self._answer,), name=self._name, daemon=True
                ).start()
            return self._answer

    def get(self) -> T | None:
        """Return the result; None if it is not available in time."""
        answer = self.ask()
        try:
            return answer.result(max(self._asked_at + PATIENCE_S - time.monotonic(), 0))
        except Exception:
            # Failures are logged by _find_out; a timeout needs no log line.
            return None

    def _find_out(self, answer: Future[T]) -> None:
        try:
            answer.set_result(self._question())
        except Exception as error:
            log.warning("question_failed", question=self._name, error=type(error).__name__)
            answer.set_exception(error)
