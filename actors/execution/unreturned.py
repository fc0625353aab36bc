"""Claims that could not be given back, since Postgres was unavailable when their runs failed."""

from __future__ import annotations

from collections import deque

from db.queue import claims
from db.queue.claims import WorkItem
from db.store import Store

#: More are forgotten, the oldest first: their attempts count. A process has one or two per lease.
MOST_KEPT = 1_000


class UnreturnedClaims:
    """The claims of this process whose attempts do not count, once Postgres is available again."""

    def __init__(self) -> None:
        self._claims: deque[tuple[WorkItem, int]] = deque(maxlen=MOST_KEPT)

    def add(self, work: WorkItem, *, attempt: int) -> None:
        """Remember a claim. It ends with its lease, unless it is given back before."""
        self._claims.append((work, attempt))

    def give_back(self, store: Store) -> None:
        """Give back all claims; raise if Postgres is still unavailable."""
        while self._claims:
            work, attempt = self._claims[0]
            with store.transaction() as tx:
                claims.forgive(tx, work, attempt=attempt)
            self._claims.popleft()
