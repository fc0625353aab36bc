"""``health_check``: is the system well, and is anything waiting for too long, or dead?"""

from __future__ import annotations

from typing import Any

import structlog

from actors import clock, failures, queues
from actors.clock import Turn
from actors.messages import CheckHealth
from actors.runtime import Runtime
from db import queries

log = structlog.get_logger(__name__)

#: A session that is unfinished for longer than this deserves an operator's eye.
WAITING_TOO_LONG_S = 3_600.0


def health_check(runtime: Runtime, nudge: CheckHealth) -> None:
    """Ask the database, the blob store and the broker, and keep what they answer."""
    clock.run(runtime, nudge, _check)


def _check(turn: Turn) -> dict[str, Any]:
    runtime = turn.runtime
    faults: dict[str, str] = {}
    with runtime.store.transaction() as db:
        oldest_s = queries.oldest_unfinished_s(db)
    try:
        runtime.blobs.check()
    except Exception as error:
        faults["blobs"] = failures.judge(error).reason
    dead: dict[str, int] = {}
    try:
        found = queues.depths(runtime.publisher.broker, prefix=runtime.settings.queue_prefix)
        dead = {depth.nudge.queue: depth.dead for depth in found if depth.dead}
    except queues.BrokerUnavailable as error:
        faults["broker"] = str(error)
    if oldest_s is not None and oldest_s > WAITING_TOO_LONG_S:
        faults["sessions"] = "waiting for too long"
    if faults:
        log.error("unhealthy", faults=faults, oldest_unfinished_s=oldest_s)
    if dead:
        # Their rows are worked on all the same, so dead letters are no fault; but somebody
        # should know why they died.
        log.warning("dead_letters", queues=dead)
    return {
        "healthy": not faults,
        "faults": faults,
        "oldest_unfinished_s": oldest_s,
        "dead_letters": dead,
    }
