"""``health_check``: is the system well, and is anything waiting for too long, or dead?"""

from __future__ import annotations

import structlog

from actors import failures, queues, runs, watchdog
from actors.messages import CheckHealth
from actors.runtime import Runtime
from db import queries

log = structlog.get_logger(__name__)

#: A session that is unfinished for longer than this deserves an operator's eye.
WAITING_TOO_LONG_S = 3_600.0


def health_check(runtime: Runtime, nudge: CheckHealth) -> None:
    """Ask the database, the blob store and the broker; the run's line says what they answer."""
    deadline_s = watchdog.deadline_s(type(nudge), runtime.settings)
    with runs.recorded(nudge.actor) as run, runtime.watchdog.over(run, deadline_s):
        faults: dict[str, str] = {}
        oldest_s: float | None = None
        try:
            with runtime.store.transaction() as db:
                oldest_s = queries.oldest_unfinished_s(db)
        except Exception as error:
            faults["database"] = failures.judge(error).reason
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
        told = "; ".join(f"{what}: {fault}" for what, fault in faults.items())
        if dead:
            # Their rows are worked on all the same, so dead letters are no fault; but somebody
            # should know why they died.
            log.warning("dead_letters", queues=dead)
        run.end(
            "failed" if faults else "done",
            error=told or None,
            oldest_unfinished_s=oldest_s,
            dead_letters=dead,
        )
