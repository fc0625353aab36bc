"""Monthly quota of analysed audio per user (calendar month, UTC).

Workers count the usage when the length of a recording is known (``actors/audio/split.py``); the
API checks the rest of the quota before it accepts a recording. So recordings that were accepted
before the limit was reached are still analysed.
"""

from __future__ import annotations

import uuid
from datetime import datetime

import falcon

from db.queries import usage_limit_queries
from db.store import Store
from services.http import operations
from services.http.access import principal
from services.http.caller_errors import QuotaExceeded


class Quota:
    """Middleware that enforces the quota on requests that submit audio."""

    def __init__(self, store: Store, *, limit_s: float | None) -> None:
        self._store = store
        #: For users without a limit; None for no limit.
        self._limit_s = limit_s

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Reject audio once the quota is used up; raises :class:`QuotaExceeded`."""
        operation = operations.operation_of(req, resource)
        if operation is not None and operation.takes_audio:
            caller = principal(req)
            self.check(caller.user_id, own_limit_s=caller.max_audio_s_per_month)

    def limit_s(self, own_limit_s: float | None) -> float | None:
        """Return the effective limit of a user; None for no limit."""
        return self._limit_s if own_limit_s is None else own_limit_s

    def check(self, user_id: uuid.UUID, *, own_limit_s: float | None) -> None:
        """Check the quota of a user; raises :class:`QuotaExceeded`.

        The database is queried only for users who have a limit.
        """
        limit_s = self.limit_s(own_limit_s)
        if limit_s is None:
            return
        used_s, renews_at = self.used(user_id)
        if used_s >= limit_s:
            raise QuotaExceeded(used_s=used_s, limit_s=limit_s, renews_at=renews_at)

    def used(self, user_id: uuid.UUID) -> tuple[float, datetime]:
        """Return the seconds of audio used this month, and the start of the next month."""
        with self._store.reading() as tx:
            return usage_limit_queries.used_this_month(tx, user_id)
