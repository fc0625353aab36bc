"""How much audio a user may have analysed in a calendar month (UTC).

What was used is counted by the workers, once they know how long a recording is
(``actors/audio/split.py``); the API looks whether anything is left before it takes another one.
So recordings that are on their way when the limit is reached are still analysed.
"""

from __future__ import annotations

import uuid
from datetime import datetime

import falcon

from db.queries import usage_limit_queries
from db.store import Store
from services.http import operations
from services.http.access import principal
from services.http.errors import QuotaExceeded


class Quota:
    """Holds users to their seconds of audio; as a middleware, where a request brings more."""

    def __init__(self, store: Store, *, limit_s: float | None) -> None:
        self._store = store
        #: Of users who have none of their own; None for no limit.
        self._limit_s = limit_s

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Let no recording be taken that may not be analysed; raises :class:`QuotaExceeded`."""
        operation = operations.operation_of(req, resource)
        if operation is not None and operation.takes_audio:
            caller = principal(req)
            self.check(caller.user_id, own_limit_s=caller.max_audio_s_per_month)

    def limit_s(self, own_limit_s: float | None) -> float | None:
        """The limit of a user, who may have one of their own; None for no limit."""
        return self._limit_s if own_limit_s is None else own_limit_s

    def check(self, user_id: uuid.UUID, *, own_limit_s: float | None) -> None:
        """Look whether a user may have more audio analysed; raises :class:`QuotaExceeded`.

        The database is asked only about users who have a limit.
        """
        limit_s = self.limit_s(own_limit_s)
        if limit_s is None:
            return
        used_s, renews_at = self.used(user_id)
        if used_s >= limit_s:
            raise QuotaExceeded(used_s=used_s, limit_s=limit_s, renews_at=renews_at)

    def used(self, user_id: uuid.UUID) -> tuple[float, datetime]:
        """Seconds of audio that a user had analysed this month, and when the next one begins."""
        with self._store.reading() as db:
            return usage_limit_queries.used_this_month(db, user_id)
