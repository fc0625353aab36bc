"""How many requests a key may make: a bucket of tokens, kept in memory and settled in Postgres.

A request takes a token from this process's own picture of the key's bucket, which costs it a
microsecond and no question to the database. What was taken is settled with the key's row by a
thread, a few times a second, for all keys in one statement; the row tells what all processes have
left of it, and that is the picture from then on. Until they have settled, two processes may give
the same token away: the bucket then goes below zero, and nobody is given one until it has been
paid back. So the rate holds over any time longer than a moment, however many processes there are.

While the database cannot be asked, each process goes on with its own picture.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import falcon
import structlog

from db.queries import usage_limit_queries
from db.queries.usage_limit_queries import Spent
from db.store import Store
from services.http.errors import RateLimited

log = structlog.get_logger(__name__)

#: Between two settlements. Shorter keeps several processes closer together, for more statements.
SETTLE_S = 0.25
#: What a process gives away of a bucket before it settles sooner than that.
SETTLE_SHARE = 1 / 8
#: The same as :data:`SETTLE_S` after a settlement that failed.
AWAY_S = 2.0
#: A full bucket that nobody took from for so long is forgotten.
IDLE_S = 60.0
#: How long the end of the process waits for a settlement that is under way.
CLOSE_S = 1.0


class _Bucket:
    """This process's picture of a key's bucket."""

    __slots__ = ("at_s", "burst", "per_s", "policy", "spent", "tokens")

    def __init__(self, per_s: float, burst: float, window_s: int, now_s: float) -> None:
        self.per_s = per_s
        self.burst = burst
        #: What is in it, as of ``at_s``.
        self.tokens = burst
        self.at_s = now_s
        #: What was taken and is not settled.
        self.spent = 0
        self.policy = f'"default";q={int(burst)};w={window_s}'

    def refill(self, now_s: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s


class RateLimiter:
    """Holds each key to its rate; :meth:`start` lets it settle by itself."""

    def __init__(
        self,
        store: Store,
        *,
        per_s: float,
        burst_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        #: Of keys that have none of their own; 0 for no limit.
        self._per_s = per_s
        #: A bucket holds what comes back in this time.
        self._burst_s = burst_s
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-limits", daemon=True)

    def start(self) -> None:
        """Settle now and then, until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Settle no more."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def enforce(self, resp: falcon.Response, *, key_id: str, per_s: float | None) -> None:
        """Take a token and tell how many are left; raises :class:`RateLimited` if there is none.

        ``per_s`` is the key's own rate.
        """
        per_s = per_s or self._per_s
        if not per_s:
            return
        now_s = self._clock()
        with self._lock:
            bucket = self._buckets.get(key_id)
            if bucket is None or bucket.per_s != per_s:
                bucket = self._bucket(key_id, per_s, now_s)
            bucket.refill(now_s)
            tokens = bucket.tokens
            if tokens >= 1:
                bucket.tokens = tokens - 1
                bucket.spent += 1
        resp.set_header("RateLimit-Policy", bucket.policy)
        if tokens < 1:
            wait_s = max(1, math.ceil((1 - tokens) / per_s))
            resp.set_header("RateLimit", f'"default";r=0;t={wait_s}')
            raise RateLimited(
                f"this key may make {per_s:g} requests a second", retry_after_s=wait_s
            )
        if bucket.spent >= bucket.burst * SETTLE_SHARE:
            self._wake.set()
        full_s = math.ceil((bucket.burst - tokens + 1) / per_s)
        resp.set_header("RateLimit", f'"default";r={int(tokens - 1)};t={full_s}')

    def settle(self) -> None:
        """Tell the database what was taken, and learn what is left."""
        with self._lock:
            spent = [
                Spent(key_id, bucket.spent, bucket.per_s, bucket.burst)
                for key_id, bucket in self._buckets.items()
                if bucket.spent
            ]
        if not spent:
            self._forget()
            return
        with self._store.transaction() as db:
            left = usage_limit_queries.settle_buckets(db, spent)
        now_s = self._clock()
        with self._lock:
            for each in spent:
                bucket = self._buckets[each.key_id]
                # Meanwhile more may have been taken.
                bucket.spent -= each.tokens
                bucket.tokens = left.get(each.key_id, bucket.tokens) - bucket.spent
                bucket.at_s = now_s

    def _bucket(self, key_id: str, per_s: float, now_s: float) -> _Bucket:
        """A new picture of a bucket: a full one, until the database has told."""
        burst = max(1.0, per_s * self._burst_s)
        bucket = _Bucket(per_s, burst, max(1, math.ceil(burst / per_s)), now_s)
        known = self._buckets.get(key_id)
        if known is not None:
            # The key's rate was changed.
            bucket.spent, bucket.tokens = known.spent, min(known.tokens, burst)
        self._buckets[key_id] = bucket
        self._wake.set()
        return bucket

    def _forget(self) -> None:
        now_s = self._clock()
        with self._lock:
            for key_id, bucket in list(self._buckets.items()):
                if not bucket.spent and now_s - bucket.at_s > IDLE_S:
                    del self._buckets[key_id]

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(SETTLE_S)
            self._wake.clear()
            try:
                self.settle()
            except Exception as error:
                log.warning("rate_limits_not_settled", error=type(error).__name__)
                # Whatever is taken meanwhile: a database that is away shall not be beset.
                self._closing.wait(AWAY_S)
