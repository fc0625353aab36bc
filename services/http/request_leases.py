"""The leases of the requests that a process is handling; see `services.http.idempotency`."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db.queries import idempotency_queries
from db.queries.idempotency_queries import Claimed
from db.store import Store

log = structlog.get_logger(__name__)


class RequestLeases:
    """Renews the leases of the requests that this process is handling, in one thread that runs
    while there are any.
    """

    def __init__(self, store: Store, *, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._held: set[Claimed] = set()
        self._is_renewing = False

    def hold(self, claimed: Claimed) -> None:
        """Renew a lease until :meth:`drop`."""
        with self._lock:
            self._held.add(claimed)
            begins = not self._is_renewing
            self._is_renewing = True
        if begins:
            threading.Thread(target=self._renew, name="idempotency-leases", daemon=True).start()

    def drop(self, claimed: Claimed) -> None:
        """Stop renewing a lease."""
        with self._lock:
            self._held.discard(claimed)

    def _renew(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._lease_s / 3)
            with self._lock:
                held = list(self._held)
                if not held:
                    self._is_renewing = False
                    return
            try:
                with self._store.transaction() as tx:
                    idempotency_queries.renew_requests(tx, held, lease_s=self._lease_s)
            except SQLAlchemyError as error:
                log.warning("leases_not_renewed", error=type(error).__name__)
