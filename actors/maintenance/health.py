"""``health_check``: is the system well, and is anything waiting for too long, or dead?

Each check answers with what it found, and raises :class:`Fault` where that is not well. A check
that fails in any other way is a fault, too: what cannot be asked cannot be well.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from actors.execution import failures
from actors.execution.runtime import Runtime
from actors.maintenance import ownership
from actors.messaging import queues
from actors.messaging.messages import CheckHealth, CleanUp
from actors.scheduling import job_runs
from actors.scheduling.job_runs import Turn
from db.queries import job_run_queries, queue_queries, retention_queries, session_queries

log = structlog.get_logger(__name__)

#: Work that has been waiting for longer than this deserves an operator's eye.
WAITING_TOO_LONG_S = 3_600.0
#: A folder of blobs with less room than this: a day of recordings must fit.
LEAST_FREE_SHARE = 0.05
LEAST_FREE_BYTES = 2 * 1024**3
#: The scheduler tells of the hourly check, this one. A second one that was missed is a fault.
SILENT_SCHEDULER = timedelta(hours=2, minutes=5)
#: A table that is divided by time needs its next part before it is written to.
PARTITIONS_AHEAD = timedelta(days=7)


class Fault(Exception):
    """Something is not well; the message says what, and ``facts`` what was found."""

    def __init__(self, what: str, **facts: Any) -> None:
        super().__init__(what)
        self.facts = facts


def health_check(runtime: Runtime, nudge: CheckHealth) -> None:
    """Ask every part, and keep what it answers."""
    job_runs.run(runtime, nudge, _check_all)


def _check_all(turn: Turn) -> dict[str, Any]:
    checks = {}
    for index, (name, check) in enumerate(CHECKS.items()):
        turn.bar.tell(index / len(CHECKS), f"looking at {name}")
        checks[name] = _outcome(turn.runtime, check)
    faults = {name: each["fault"] for name, each in checks.items() if not each["ok"]}
    if faults:
        log.error("unhealthy", faults=faults)
    dead = checks["broker"].get("dead_letters")
    if dead:
        # Their rows are worked on all the same, so dead letters are no fault; but somebody
        # should know why they died.
        log.warning("dead_letters", queues=dead)
    return {"healthy": not faults, "faults": faults, "checks": checks}


def _outcome(runtime: Runtime, check: Callable[[Runtime], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": True, **check(runtime)}
    except Fault as fault:
        return {"ok": False, "fault": str(fault), **fault.facts}
    except Exception as error:
        return {"ok": False, "fault": failures.judge(error).reason}


def _database(runtime: Runtime) -> dict[str, Any]:
    """It answers, and no session has been unfinished for too long."""
    with runtime.store.transaction() as db:
        oldest_s = session_queries.oldest_unfinished_s(db)
    return {"oldest_unfinished_s": oldest_s}


def _broker(runtime: Runtime) -> dict[str, Any]:
    """It answers, and its dead letters are told."""
    try:
        found = queues.depths(runtime.publisher.broker, prefix=runtime.settings.queue_prefix)
    except queues.BrokerUnavailable as error:
        raise Fault(str(error)) from error
    return {"dead_letters": {depth.nudge.queue: depth.dead for depth in found if depth.dead}}


def _queues(runtime: Runtime) -> dict[str, Any]:
    """No row has been free to be worked on for too long."""
    with runtime.store.transaction() as db:
        backlogs = queue_queries.backlogs(db)
    oldest_s = {kind: each.oldest_s for kind, each in backlogs.items() if each.oldest_s}
    late = [kind for kind, age_s in oldest_s.items() if age_s > WAITING_TOO_LONG_S]
    if late:
        raise Fault(f"waiting for too long: {', '.join(sorted(late))}", oldest_s=oldest_s)
    return {"oldest_s": oldest_s}


def _blobs(runtime: Runtime) -> dict[str, Any]:
    """The blob store answers."""
    runtime.blobs.check()
    return {}


def _installation(runtime: Runtime) -> dict[str, Any]:
    """The blob store is this database's, and the latest cleanup of it did not refuse."""
    try:
        is_settled = ownership.settle(runtime)
    except ownership.NotOurs as error:
        raise Fault(str(error)) from error
    with runtime.store.transaction() as db:
        latest = job_run_queries.latest_result(db, CleanUp.actor)
    if latest is not None and latest.problem is not None:
        raise Fault(f"the latest {CleanUp.actor} failed: {latest.problem['detail']}")
    return {"owns_blobs": is_settled}


def _disk(runtime: Runtime) -> dict[str, Any]:
    """A folder of blobs has room; how much a bucket has, nobody tells."""
    room = runtime.blobs.room()
    if room is None:
        return {}
    facts = {"free_bytes": room.free, "total_bytes": room.total}
    if room.free < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * room.total):
        raise Fault(f"{room.free / 1024**3:.1f} GiB are free for recordings", **facts)
    return facts


def _model(runtime: Runtime) -> dict[str, Any]:
    """The model that new sessions are given is stored, whole, and can be read."""
    model_id = runtime.current_model_id()
    model = runtime.read_model(model_id)
    return {"model_id": str(model_id), "name": str(model.header["name"])}


def _backbone(runtime: Runtime) -> dict[str, Any]:
    """Whether the backbone is used. Without it Clamor uses its model alone, which is no fault."""
    return {"state": runtime.backbone_state}


def _scheduler(runtime: Runtime) -> dict[str, Any]:
    """The scheduler has told of a slot lately; in one process there is none."""
    if runtime.settings.in_memory_broker:
        return {}
    with runtime.store.transaction() as db:
        now, tick = session_queries.clock(db), job_run_queries.latest_tick(db)
        since = tick or job_run_queries.first_run_at(db) or now
    facts = {"latest_tick": None if tick is None else tick.isoformat()}
    if now - since > SILENT_SCHEDULER:
        raise Fault("the scheduler is silent; recovery fills its slots meanwhile", **facts)
    return facts


def _partitions(runtime: Runtime) -> dict[str, Any]:
    """Tables that are divided by time have parts ahead of it; without any, all is well."""
    with runtime.store.transaction() as db:
        until, now = retention_queries.partitions_until(db), session_queries.clock(db)
    late = [name for name, end in until.items() if not _is_ahead(end, now)]
    if late:
        raise Fault(f"no partition ahead: {', '.join(sorted(late))}", until=until)
    return {"until": until}


def _is_ahead(end: str | None, now: datetime) -> bool:
    if end is None:
        return False
    at = datetime.fromisoformat(end)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) - now > PARTITIONS_AHEAD


CHECKS: dict[str, Callable[[Runtime], dict[str, Any]]] = {
    "database": _database,
    "broker": _broker,
    "queues": _queues,
    "blobs": _blobs,
    "installation": _installation,
    "disk": _disk,
    "model": _model,
    "backbone": _backbone,
    "scheduler": _scheduler,
    "partitions": _partitions,
}
