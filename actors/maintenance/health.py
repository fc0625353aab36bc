"""``health_check``: check all parts of the system, and look for work that waits too long or died.

Each check returns its findings, or raises :class:`Fault`. Any other error of a check is a fault
too: a part that cannot be queried is not healthy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import structlog

from actors.execution import failures
from actors.execution.runtime import Runtime
from actors.maintenance import ownership, partitions
from actors.messaging import kinds, queues
from actors.messaging.messages import CheckHealth, CleanUp
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from db.queries import job_run_queries, partition_queries, server_queries, session_queries
from db.queries.server_queries import ServerState
from db.tables.base import JsonObject
from db.tables.documents.job_results import HealthResult

log = structlog.get_logger(__name__)

#: Work that has been waiting for longer than this needs an operator's attention.
WAITING_TOO_LONG_S = 3_600.0
#: The least free space of a blob folder: a day of recordings must fit.
LEAST_FREE_SHARE = 0.05
LEAST_FREE_BYTES = 2 * 1024**3
#: No transaction of Clamor takes a minute, but a dump of a large database takes hours. Vacuum
#: removes no row that died after the oldest transaction began.
LONG_TRANSACTION_S = 6 * 3_600.0
#: By default autovacuum freezes rows from a tenth of the transaction IDs on, and from a fifth of
#: the multixact IDs on; at half of them it has failed. Near 1 Postgres stops writing.
MOST_XID_SHARE = 0.5
#: The scheduler sends a tick every hour, for this check. Two missed ticks are a fault.
SILENT_SCHEDULER = timedelta(hours=2, minutes=5)


class Fault(Exception):
    """A check failed. The message says why, and ``facts`` holds the findings."""

    def __init__(self, what: str, **facts: object) -> None:
        super().__init__(what)
        self.facts = facts


def health_check(runtime: Runtime, nudge: CheckHealth) -> None:
    """Run every check and store the findings."""
    job_runs.run(runtime, nudge, _check_all)


def _check_all(run: ScheduledRun) -> HealthResult:
    checks: dict[str, JsonObject] = {}
    for index, (name, check) in enumerate(CHECKS.items()):
        run.bar.tell(index / len(CHECKS), f"checking {name}")
        checks[name] = _outcome(run.runtime, check)
    faults = {name: str(each["fault"]) for name, each in checks.items() if not each["ok"]}
    if faults:
        log.error("unhealthy", faults=faults)
    dead = checks["broker"].get("dead_letters")
    if dead:
        # Their rows are still processed, so dead letters are not a fault; but their cause should
        # be investigated.
        log.warning("dead_letters", queues=dead)
    return HealthResult(healthy=not faults, faults=faults, checks=checks)


def _outcome(runtime: Runtime, check: Callable[[Runtime], JsonObject]) -> JsonObject:
    try:
        return {"ok": True, **check(runtime)}
    except Fault as fault:
        return {"ok": False, "fault": str(fault), **fault.facts}
    except Exception as error:
        return {"ok": False, "fault": failures.judge(error).reason}


def _database(runtime: Runtime) -> JsonObject:
    """Check that the database responds, and for what makes it slow or stop in the end.

    The role of the worker sees only transactions of the same role, unless it has
    ``pg_read_all_stats``.
    """
    with runtime.store.transaction() as tx:
        oldest_s = session_queries.oldest_unfinished_s(tx)
        server = server_queries.state(tx)
    facts = {
        "oldest_unfinished_s": oldest_s,
        "oldest_transaction_s": server.oldest_transaction_s,
        "xid_share": server.xid_share,
        "invalid_indexes": server.invalid_indexes,
    }
    if faults := list(_server_faults(server)):
        raise Fault("; ".join(faults), **facts)
    return facts


def _server_faults(server: ServerState) -> Iterator[str]:
    """Yield each fault of the server, with its remedy."""
    if server.oldest_transaction_s > LONG_TRANSACTION_S:
        hours = server.oldest_transaction_s / 3_600
        yield f"a transaction has been open for {hours:.0f} hours: end it (docs/dba.md)"
    if server.xid_share > MOST_XID_SHARE:
        yield f"{server.xid_share:.0%} of the transaction IDs are used: run VACUUM FREEZE"
    if server.invalid_indexes:
        names = ", ".join(server.invalid_indexes)
        yield f"invalid indexes: {names}; run REINDEX INDEX CONCURRENTLY for each"


def _broker(runtime: Runtime) -> JsonObject:
    """Check that the broker responds, and return its dead letters."""
    try:
        found = queues.depths(runtime.publisher.broker, prefix=runtime.settings.queue_prefix)
    except queues.BrokerUnavailable as error:
        raise Fault(str(error)) from error
    return {"dead_letters": {depth.nudge.queue: depth.dead for depth in found if depth.dead}}


def _queues(runtime: Runtime) -> JsonObject:
    """Check that no row has been due and unclaimed for too long."""
    with runtime.store.transaction() as tx:
        backlogs = kinds.backlogs(tx)
    oldest_s = {queue: each.oldest_s for queue, each in backlogs.items() if each.oldest_s}
    late = [queue for queue, age_s in oldest_s.items() if age_s > WAITING_TOO_LONG_S]
    if late:
        raise Fault(f"waiting for too long: {', '.join(sorted(late))}", oldest_s=oldest_s)
    return {"oldest_s": oldest_s}


def _blobs(runtime: Runtime) -> JsonObject:
    """Check that the blob store responds."""
    runtime.blobs.check()
    return {}


def _installation(runtime: Runtime) -> JsonObject:
    """Check that the blob store belongs to this database, and that its latest cleanup succeeded."""
    try:
        is_settled = ownership.settle(runtime)
    except ownership.NotOurs as error:
        raise Fault(str(error)) from error
    with runtime.store.transaction() as tx:
        latest = job_run_queries.latest_result(tx, CleanUp.actor)
    if latest is not None and latest.problem is not None:
        raise Fault(f"the latest {CleanUp.actor} failed: {latest.problem['detail']}")
    return {"owns_blobs": is_settled}


def _disk(runtime: Runtime) -> JsonObject:
    """Check the free space of a blob folder. That of a bucket is unknown."""
    room = runtime.blobs.room()
    if room is None:
        return {}
    facts = {"free_bytes": room.free, "total_bytes": room.total}
    if room.free < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * room.total):
        raise Fault(f"{room.free / 1024**3:.1f} GiB are free for recordings", **facts)
    return facts


def _model(runtime: Runtime) -> JsonObject:
    """Check that the model for new sessions is stored, complete and readable."""
    model_id = runtime.current_model_id()
    model = runtime.read_model(model_id)
    return {"model_id": str(model_id), "name": str(model.header["name"])}


def _backbone(runtime: Runtime) -> JsonObject:
    """Return whether the backbone is used. Without it Clamor uses its model alone, not a fault."""
    return {"state": runtime.backbone_state}


def _scheduler(runtime: Runtime) -> JsonObject:
    """Check that the scheduler has sent a tick recently. The standalone service has none."""
    if runtime.settings.in_memory_broker:
        return {}
    with runtime.store.transaction() as tx:
        now, tick = session_queries.clock(tx), job_run_queries.latest_tick(tx)
        since = tick or job_run_queries.first_run_at(tx) or now
    facts = {"latest_tick": None if tick is None else tick.isoformat()}
    if now - since > SILENT_SCHEDULER:
        raise Fault("the scheduler is silent; recovery fills its slots meanwhile", **facts)
    return facts


def _partitions(runtime: Runtime) -> JsonObject:
    """Check that there are partitions for the coming months, and none past their retention."""
    with runtime.store.transaction() as tx:
        bounds, now = partition_queries.bounds(tx), session_queries.clock(tx)
    facts = {
        "until": {
            table: partitions.reach(each, now).isoformat() if each else None
            for table, each in bounds.items()
        }
    }
    if faults := list(partitions.faults(bounds, now=now, settings=runtime.settings)):
        raise Fault("; ".join(faults), **facts)
    return facts


CHECKS: dict[str, Callable[[Runtime], JsonObject]] = {
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
