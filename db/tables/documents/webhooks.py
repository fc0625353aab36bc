"""The log of a delivery."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Try(msgspec.Struct, kw_only=True):
    """One delivery attempt."""

    at: datetime
    #: HTTP status of the receiver; null if it did not respond.
    status: int | None
    duration_s: float
    #: Reason of a failure; null on success.
    error: str | None
