"""Rate limits per API key: token buckets in memory, synchronised through Postgres.

A request takes a token from this process's copy of the key's bucket, which costs a microsecond and
no database query. A thread settles the spent tokens with the rows of all keys in one statement, a
few times a second; the rows then hold what all processes together have left, which replaces the
copy. Between settlements two processes may spend the same token: the balance becomes negative, and
no token is given out until it has recovered. So the rate holds over more than a moment, for any
number of processes.

While the database is unavailable, each process continues with its own copy.
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
from services.http.caller_errors import RateLimited

log = structlog.get_logger(__name__)

#: Time between settlements. A shorter one keeps processes closer together for more statements.
SETTLE_S = 0.25
#: Share of a bucket that a process spends before it settles ahead of time.
SETTLE_SHARE = 1 / 8
#: Like :data:`SETTLE_S`, after a failed settlement.
AWAY_S = 2.0
#: An unused bucket is dropped from memory after this time.
IDLE_S = 60.0
#: How long shutdown waits for a running settlement.
CLOSE_S = 1.0


class _Bucket:
    """This process's copy of a key's bucket."""

    __slots__ = ("at_s", "burst", "per_s", "policy", "spent", "tokens")

    def __init__(self, per_s: float, burst: float, window_s: int, now_s: float) -> None:
        self.per_s = per_s
        self.burst = burst
        #: The balance at ``at_s``.
        self.tokens = burst
        self.at_s = now_s
        #: Tokens spent since the last settlement.
        self.spent = 0
        self.policy = f'"default";q={int(burst)};w={window_s}'

    def refill(self, now_s: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now_s - self.at_s) * self.per_s)
        self.at_s = now_s


class RateLimiter:
    """Enforce the rate of each key; :meth:`start` begins periodic settlement."""

    def __init__(
        self,
        store: Store,
        *,
        per_s: float,
        burst_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        #: For keys without a rate; 0 for no limit.
        self._per_s = per_s
        #: A full bucket holds the tokens of this time.
        self._burst_s = burst_s
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rate-limits", daemon=True)

    def start(self) -> None:
        """Start settling periodically, until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop settling."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)

    def enforce(self, resp: falcon.Response, *, key_id: str, per_s: float | None) -> None:
        """Take a token and set the rate limit headers; raises :class:`RateLimited` if none is left.

        ``per_s`` is the key's rate; None for the default.
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
                f"this API key may make {per_s:g} requests per second", retry_after_s=wait_s
            )
        if bucket.spent >= bucket.burst * SETTLE_SHARE:
            self._wake.set()
        full_s = math.ceil((bucket.burst - tokens + 1) / per_s)
        resp.set_header("RateLimit", f'"default";r={int(tokens - 1)};t={full_s}')

    def settle(self) -> None:
        """Write the spent tokens to the database and read the new balances."""
        with self._lock:
            spent = [
                Spent(key_id, bucket.spent, bucket.per_s, bucket.burst)
                for key_id, bucket in self._buckets.items()
                if bucket.spent
            ]
        if not spent:
            self._forget()
            return
        with self._store.transaction() as tx:
            left = usage_limit_queries.settle_buckets(tx, spent)
        now_s = self._clock()
        with self._lock:
            for each in spent:
                bucket = self._buckets[each.key_id]
                # More tokens may have been spent during the settlement.
                bucket.spent -= each.tokens
                bucket.tokens = left.get(each.key_id, bucket.tokens) - bucket.spent
                bucket.at_s = now_s

    def _bucket(self, key_id: str, per_s: float, now_s: float) -> _Bucket:
        """Add a copy of a bucket: full until the first settlement."""
        burst = max(1.0, per_s * self._burst_s)
        bucket = _Bucket(per_s, burst, max(1, math.ceil(burst / per_s)), now_s)
        known = self._buckets.get(key_id)
        if known is not None:
            # The key's rate has changed.
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
                # Wait even if _wake is set, to spare an unavailable database.
                self._closing.wait(AWAY_S)
