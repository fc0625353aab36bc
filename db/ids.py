"""The IDs of new rows: UUIDs of version 7 (RFC 9562), which sort by the time of their creation.

Rows that are added one after the other get neighbouring keys, so that their entries share pages of
the index. Random keys would touch a page each.

IDs that must not be guessed or that say nothing about a row, such as those of uploads and of
requests, stay random.
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_VERSION, _VARIANT = 7, 0b10
#: The bits of the counter: 12 before the variant and 30 after it.
_HIGH_BITS, _LOW_BITS = 12, 30


class _Ids:
    """The IDs of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The time in milliseconds and the counter of the last ID.
        self._last = (0, 0)

    def new(self) -> uuid.UUID:
        time_ms, counter = self._next(time.time_ns() // 1_000_000)
        high, low = divmod(counter, 1 << _LOW_BITS)
        return uuid.UUID(
            int=time_ms << 80
            | _VERSION << 76
            | high << 64
            | _VARIANT << 62
            | low << 32
            | secrets.randbits(32)
        )

    def _next(self, now_ms: int) -> tuple[int, int]:
        with self._lock:
            time_ms, counter = self._last
            if now_ms > time_ms:
                # From the lower half of the range: it cannot overflow within a millisecond.
                self._last = now_ms, secrets.randbits(_HIGH_BITS + _LOW_BITS - 1)
            else:
                self._last = time_ms, counter + 1
            return self._last


_ids = _Ids()


def new_id() -> uuid.UUID:
    """Return a new ID, higher than all earlier ones of this process.

    It consists of 48 bits of milliseconds since 1970, a counter of 42 bits that starts at random in
    each millisecond, and 32 random bits. If the clock is put back, the time of the last ID is used
    until the clock has passed it.
    """
    return _ids.new()
