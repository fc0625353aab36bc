"""``health_check``: is the system well, and is anything waiting for too long?"""

from __future__ import annotations

import structlog

from actors.messages import CheckHealth
from actors.runtime import Runtime
from db import queries

log = structlog.get_logger(__name__)

#: A session that is unfinished for longer than this deserves an operator's eye.
WAITING_TOO_LONG_S = 3_600.0


def health_check(runtime: Runtime, _nudge: CheckHealth) -> None:
    """Ask the database and the blob store, and log one line with what they say."""
    faults: dict[str, str] = {}
    oldest_s: float | None = None
    try:
        with runtime.store.transaction() as db:
            oldest_s = queries.oldest_unfinished_s(db)
    except Exception as error:
        faults["database"] = type(error).__name__
    try:
        runtime.blobs.check()
    except Exception as error:
        faults["blobs"] = type(error).__name__
    if oldest_s is not None and oldest_s > WAITING_TOO_LONG_S:
        faults["sessions"] = "waiting for too long"
    write = log.error if faults else log.info
    write("health_check", faults=faults, oldest_unfinished_s=oldest_s)
