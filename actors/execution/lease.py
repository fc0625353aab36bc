"""Hold a claim during the work: renew its lease, and stop when the claim is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import structlog

from actors.execution.failures import RAN_LONGER, ClaimLost, DeadlineExceeded
from db.queue import claims
from db.queue.claims import ClaimTimes, WorkItem
from db.store import Store

log = structlog.get_logger(__name__)

#: How often a lease is renewed before it would expire.
RENEWALS_PER_LEASE = 3
#: How often a thread checks that the claim is still held. Shorter notices a cancellation sooner;
#: each check is one small query per worker.
LOOK_S = 1.0


class Lease:
    """The claim that a piece of work runs under: its attempt number and a check for its loss.

    As a context manager it holds the claim: a thread renews the lease up to the deadline. After
    that the lease expires, another worker claims the row, and writes of this worker fail at the
    fence.
    """

    def __init__(
        self,
        store: Store,
        work: WorkItem,
        *,
        attempt: int,
        lease_s: float,
        deadline_s: float,
        uncounted: int = 0,
        times: ClaimTimes | None = None,
    ) -> None:
        self.attempt = attempt
        #: When the row was first claimed, and when by this claim; only of sessions.
        self.times = times
        #: The attempt number without claims that do not count as attempts.
        self.counted = attempt - uncounted
        #: How many claims did not count.
        self.uncounted = uncounted
        #: Blobs written by this attempt. They are only needed if it succeeds.
        self.keys: list[str] = []
        self._store = store
        self._work = work
        self._lease_s = lease_s
        self.deadline_s = deadline_s
        self._ends_at = time.monotonic() + deadline_s
        self._is_lost = False
        #: Stops the clock of whatever else watches over the run.
        self.clock: AbstractContextManager[object] = nullcontext()
        #: Since when the run has given the turn to other work; None while it works.
        self._suspended_at: float | None = None
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._finished.set()
        self._thread.join()

    @property
    def names(self) -> dict[str, Any]:
        """The identifiers of the claimed row."""
        return self._work.names

    @property
    def held_s(self) -> float:
        """How long the claim has been held, without the turns of other work."""
        now = time.monotonic() if self._suspended_at is None else self._suspended_at
        return self.deadline_s - (self._ends_at - now)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Keep the claim in a block that does other work, and stop the clock of the deadline."""
        self._suspended_at = began = time.monotonic()
        try:
            with self.clock:
                yield
        finally:
            self._ends_at += time.monotonic() - began
            self._suspended_at = None

    def check(self) -> None:
        """Raise if the work is no longer needed. Long loops call this often; it is cheap.

        Raises
        ------
        ClaimLost
            If the session has ended, or another worker has claimed the row.
        DeadlineExceeded
            If the work has exceeded its deadline.
        """
        if self._is_lost:
            raise ClaimLost
        if time.monotonic() >= self._ends_at:
            raise DeadlineExceeded(f"{RAN_LONGER} {self.deadline_s:g} s")

    def own(self, key: str) -> str:
        """Register the key of a blob about to be written, so that a failed attempt removes it."""
        self.keys.append(key)
        return key

    def release(self, key: str) -> None:
        """Keep a blob of this attempt, because its row names it now, or may."""
        self.keys.remove(key)

    def _keep(self) -> None:
        renew_s = self._lease_s / RENEWALS_PER_LEASE
        renew_at = time.monotonic() + renew_s
        is_away = False
        while not self._finished.wait(min(LOOK_S, renew_s)):
            now = time.monotonic()
            if now >= self._ends_at and self._suspended_at is None:
                return
            try:
                held = self._renew() if now >= renew_at else self._look()
            except Exception as error:
                # Postgres is unavailable: the next check may come in time; else the fence decides.
                if not is_away:
                    log.warning("lease_not_renewed", error=type(error).__name__)
                is_away = True
                continue
            is_away = False
            if now >= renew_at:
                renew_at = now + renew_s
            if not held:
                self._is_lost = True
                return

    def _renew(self) -> bool:
        with self._store.transaction() as tx:
            return claims.extend_lease(tx, self._work, attempt=self.attempt, lease_s=self._lease_s)

    def _look(self) -> bool:
        with self._store.transaction() as tx:
            return claims.is_held(tx, self._work, attempt=self.attempt)
