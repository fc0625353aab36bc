"""A claim while it is worked on: renewed, looked after, and given up when it is lost."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import structlog

from actors.execution.failures import ClaimLost, DeadlineExceeded
from db.queue import claims
from db.queue.claims import Unit
from db.store import Store

log = structlog.get_logger(__name__)

#: The lease is renewed this many times before it would end.
RENEWALS_PER_LEASE = 3
#: How often a thread looks whether the claim is still held: how soon a cancel is noticed, against
#: one small question to Postgres a worker.
LOOK_S = 1.0


class Lease:
    """What the work is given: the number of its attempt, and a way to ask whether to go on.

    As a context manager it keeps the claim: a thread renews the lease up to the deadline. Past
    that the lease is left to end, the row goes to somebody else, and what this worker may still
    write fails at the fence.
    """

    def __init__(
        self,
        store: Store,
        work: Unit,
        *,
        attempt: int,
        lease_s: float,
        deadline_s: float,
        uncounted: int = 0,
    ) -> None:
        self.attempt = attempt
        #: The number of the claim, without those that do not count as attempts.
        self.counted = attempt - uncounted
        #: How many claims did not count.
        self.uncounted = uncounted
        #: Blobs that this attempt writes. Nobody needs them unless it ends well.
        self.keys: list[str] = []
        self._store = store
        self._work = work
        self._lease_s = lease_s
        self.deadline_s = deadline_s
        self._ends_at = time.monotonic() + deadline_s
        self._is_lost = False
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

    def check(self) -> None:
        """Stop work that is in vain. Long loops call this often; it costs next to nothing.

        Raises
        ------
        ClaimLost
            If the session has ended, or somebody else has the row.
        DeadlineExceeded
            If the work has taken too long.
        """
        if self._is_lost:
            raise ClaimLost
        if time.monotonic() >= self._ends_at:
            raise DeadlineExceeded(f"it ran for longer than {self.deadline_s:g} s")

    def own(self, key: str) -> str:
        """The key of a blob that is about to be written, remembered to be removed if in vain."""
        self.keys.append(key)
        return key

    def release(self, key: str) -> None:
        """A blob of this attempt's that its row names by now, or may: it stays."""
        self.keys.remove(key)

    def _keep(self) -> None:
        renew_s = self._lease_s / RENEWALS_PER_LEASE
        renew_at = time.monotonic() + renew_s
        is_away = False
        while not self._finished.wait(min(LOOK_S, renew_s)):
            now = time.monotonic()
            if now >= self._ends_at:
                return
            try:
                held = self._renew() if now >= renew_at else self._look()
            except Exception as error:
                # Postgres is away: the next look may come in time, else the fence decides.
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
        with self._store.transaction() as db:
            return claims.extend_lease(db, self._work, attempt=self.attempt, lease_s=self._lease_s)

    def _look(self) -> bool:
        with self._store.transaction() as db:
            return claims.is_held(db, self._work, attempt=self.attempt)
