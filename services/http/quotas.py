"""What a user may use: audio a month, and unfinished work and stored bytes at any time.

Audio is reserved when a recording is accepted, in the transaction that creates its session: what
its header promises, or its size. Workers count it instead when it is decoded
(``actors/audio/split.py``). A recording is accepted while something of the quota is left, so a
month may end above the limit by one recording: one that promised too little reserves more while it
is decoded (``actors/audio/allowance.py``). Only callers with such a limit cost a statement, and
wait for one another.

The numbers of unfinished sessions and of stored bytes are read once in a while and continued by
this process in between: they may be exceeded by what other processes accept in that time.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable

import falcon
from sqlalchemy.orm import Session

from db.queries import usage_limit_queries
from db.settings import Settings
from db.store import Store
from db.tables.exports import Export
from db.tables.training import TrainingJob, Validation
from services.http import operations
from services.http.access import Principal, principal
from services.http.caller_errors import (
    QuotaExceeded,
    StorageQuotaExceeded,
    TooManyUnfinished,
)

#: Names of limits, as in ``GET /v1/usage`` and in errors.
SESSIONS, BYTES = "unfinished_sessions", "stored_bytes"
EXPORTS, TRAININGS = "unfinished_exports", "unfinished_trainings"
#: The tables whose pending rows a limit counts.
JOBS: dict[str, tuple[type[Export | TrainingJob | Validation], ...]] = {
    EXPORTS: (Export,),
    TRAININGS: (TrainingJob, Validation),
}
#: Seconds after which the number of unfinished sessions, and the sum of bytes, are read again.
COUNTED_S, ADDED_UP_S = 1.0, 60.0
#: Users whose numbers are remembered.
MOST_USERS = 10_000


class _Numbers:
    """A number of each user that is read now and then, and continued in between."""

    def __init__(self, read: Callable[[uuid.UUID], int], *, fresh_s: float) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        #: The number, and when it was read.
        self._known: OrderedDict[uuid.UUID, tuple[int, float]] = OrderedDict()

    def of(self, user_id: uuid.UUID) -> int:
        """Return the number of a user."""
        with self._lock:
            number, read_s = self._known.get(user_id, (0, float("-inf")))
        now_s = time.monotonic()
        if now_s - read_s > self._fresh_s:
            number = self._read(user_id)
            with self._lock:
                self._known[user_id] = number, now_s
                self._known.move_to_end(user_id)
                if len(self._known) > MOST_USERS:
                    self._known.popitem(last=False)
        return number

    def take(self, user_id: uuid.UUID, more: int, *, most: int | None) -> int | None:
        """Continue the number of a user that is below ``most``; return the number of any other.

        A number that has not been read is not continued.
        """
        with self._lock:
            if user_id not in self._known:
                return None
            number, read_s = self._known[user_id]
            if most is not None and number >= most:
                return number
            self._known[user_id] = number + more, read_s
            return None


class Quota:
    """Middleware that enforces the limits of users on requests that submit audio."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._sessions = _Numbers(self._count_sessions, fresh_s=COUNTED_S)
        self._bytes = _Numbers(self._add_up_bytes, fresh_s=ADDED_UP_S)

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: object
    ) -> None:
        """Reject audio before its body is read if a limit is reached.

        Raises
        ------
        QuotaExceeded, StorageQuotaExceeded, TooManyUnfinished
        """
        operation = operations.operation_of(req, resource)
        if operation is None or not operation.takes_audio:
            return
        caller = principal(req)
        self.check_stock(caller.user_id)
        if self.limit_s(caller.max_audio_s_per_month) is not None:
            with self._store.reading() as tx:
                self._check_audio(tx, caller)

    def limit_s(self, own_limit_s: float | None) -> float | None:
        """Return the effective limit of a user; None for no limit."""
        return self._settings.max_audio_s_per_month if own_limit_s is None else own_limit_s

    def check_stock(self, user_id: uuid.UUID) -> None:
        """Check the unfinished sessions and the stored bytes of a user.

        Raises
        ------
        StorageQuotaExceeded, TooManyUnfinished
        """
        used, most = self._sessions.of(user_id), self._settings.max_unfinished_sessions
        if used >= most:
            raise TooManyUnfinished(SESSIONS, used=used, most=most)
        most_bytes = self._settings.max_stored_bytes
        if most_bytes is not None and (used := self._bytes.of(user_id)) >= most_bytes:
            raise StorageQuotaExceeded(BYTES, used=used, most=most_bytes)

    def reserve(self, tx: Session, caller: Principal, *, size_bytes: int = 0) -> None:
        """Check all limits in the transaction that creates a session, and count it.

        Other requests of the user may have reached a limit while its recording arrived. With a
        limit of audio, the transactions of other requests of the user wait for the end of this one.

        Raises
        ------
        QuotaExceeded, StorageQuotaExceeded, TooManyUnfinished
        """
        user_id = caller.user_id
        if self.limit_s(caller.max_audio_s_per_month) is not None:
            usage_limit_queries.lock_user(tx, user_id)
            self._check_audio(tx, caller)
        most = self._settings.max_unfinished_sessions
        if (used := self._sessions.take(user_id, 1, most=most)) is not None:
            raise TooManyUnfinished(SESSIONS, used=used, most=most)
        most_bytes = self._settings.max_stored_bytes
        if (used := self._bytes.take(user_id, size_bytes, most=most_bytes)) is not None:
            assert most_bytes is not None
            raise StorageQuotaExceeded(BYTES, used=used, most=most_bytes)

    def check_jobs(self, tx: Session, user_id: uuid.UUID, limit: str) -> None:
        """Check a limit of `JOBS` in the transaction that adds one.

        Raises
        ------
        TooManyUnfinished
        """
        usage_limit_queries.lock_user(tx, user_id)
        used = usage_limit_queries.pending_jobs(tx, user_id, *JOBS[limit])
        most = self.limits()[limit]
        if most is not None and used >= most:
            raise TooManyUnfinished(limit, used=used, most=most)

    def limits(self) -> dict[str, int | None]:
        """Return the limits of unfinished work and stored bytes by name; None for no limit."""
        return {
            SESSIONS: self._settings.max_unfinished_sessions,
            BYTES: self._settings.max_stored_bytes,
            EXPORTS: self._settings.max_unfinished_exports,
            TRAININGS: self._settings.max_unfinished_trainings,
        }

    def used(self, tx: Session, user_id: uuid.UUID) -> dict[str, int]:
        """Return what a user has of each limit; the bytes as of a minute ago at most."""
        jobs = {
            name: usage_limit_queries.pending_jobs(tx, user_id, *tables)
            for name, tables in JOBS.items()
        }
        return {SESSIONS: self._sessions.of(user_id), BYTES: self._bytes.of(user_id), **jobs}

    def _check_audio(self, tx: Session, caller: Principal) -> None:
        month = usage_limit_queries.audio_this_month(tx, caller.user_id)
        limit_s = self.limit_s(caller.max_audio_s_per_month)
        if limit_s is not None and month.used_s + month.reserved_s >= limit_s:
            raise QuotaExceeded(limit_s=limit_s, **month._asdict())

    def _count_sessions(self, user_id: uuid.UUID) -> int:
        with self._store.reading() as tx:
            return usage_limit_queries.unfinished_sessions(
                tx, user_id, limit=self._settings.max_unfinished_sessions
            )

    def _add_up_bytes(self, user_id: uuid.UUID) -> int:
        with self._store.reading() as tx:
            return usage_limit_queries.stored_bytes(tx, user_id)
