"""Bounds what wrong keys cost: beyond a rate they are refused without a query.

A key is looked up with every request. One that is refused costs a token of this process; while
there are tokens, every key is looked up, so that a new key works at once. Without tokens a process
looks up only what can be accepted: keys that it has accepted before, and those of a copy of the
hashes of all active keys, which is at most `FRESH_S` old. A new key then works within that time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from db.queries import account_queries
from db.store import Store
from services.http import keys

#: Refused keys that may be looked up per second, and at once after a pause.
LOOK_UPS_PER_S = 10.0
BURST = 50.0
#: The age of the copy, and so the interval of its query, while wrong keys are a flood.
FRESH_S = 1.0
#: Accepted keys that a process remembers: about 200 bytes each.
MOST_ACCEPTED = 10_000
#: Active keys of the copy, the newest first: 20 MB. Older ones are looked up if they have been
#: accepted before.
MOST_COPIED = 100_000


class WrongKeys:
    """Decides whether a key is looked up."""

    def __init__(
        self, store: Store, hasher: keys.Hasher, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens = BURST
        self._tokens_at_s = clock()
        #: Hashes of keys by their ID: those accepted last, and those of the copy.
        self._accepted: OrderedDict[str, bytes] = OrderedDict()
        self._copy: dict[str, bytes] = {}
        self._copied_at_s = float("-inf")
        self._copying = threading.Lock()

    def may_be_right(self, key: keys.Shown) -> bool:
        """Return whether a key must be looked up; False if it is certainly not accepted."""
        if self._fits(key, self._accepted.get(key.id)):
            return True
        with self._lock:
            now_s = self._clock()
            refilled = self._tokens + (now_s - self._tokens_at_s) * LOOK_UPS_PER_S
            self._tokens, self._tokens_at_s = min(BURST, refilled), now_s
            if self._tokens >= 1:
                return True
        return self._fits(key, self._hash_in_copy(key.id))

    def accepted(self, key: keys.Shown, secret_hash: bytes) -> None:
        """Remember a key that was accepted."""
        with self._lock:
            self._accepted[key.id] = secret_hash
            self._accepted.move_to_end(key.id)
            if len(self._accepted) > MOST_ACCEPTED:
                self._accepted.popitem(last=False)

    def refused(self, key: keys.Shown) -> None:
        """Take a token for a key that was looked up in vain, and forget it."""
        with self._lock:
            self._tokens -= 1
            self._accepted.pop(key.id, None)

    def _fits(self, key: keys.Shown, secret_hash: bytes | None) -> bool:
        return secret_hash is not None and self._hasher.fits(key, secret_hash)

    def _hash_in_copy(self, key_id: str) -> bytes | None:
        with self._copying:
            if self._clock() - self._copied_at_s > FRESH_S:
                self._copy = account_queries.active_hashes(self._store, limit=MOST_COPIED)
                self._copied_at_s = self._clock()
        return self._copy.get(key_id)
