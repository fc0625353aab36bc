"""Create the partitions of the coming months, and drop those past their retention.

A month is dropped when all of it is older than its retention, so rows are kept for up to a month
longer. No row is deleted: that would write each of them to the WAL, and leave space to vacuum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from psycopg import errors
from sqlalchemy.exc import OperationalError

from actors.scheduling.job_runs import ScheduledRun
from db.queries import partition_queries
from db.queries.partition_queries import METRICS, REQUESTS, Bounds
from db.settings import Settings

log = structlog.get_logger(__name__)

#: Each night creates those of three months. Fewer mean that runs fail, long before rows have none.
AHEAD = timedelta(days=60)
#: For how long a partition past its retention may be locked at each run, as by a nightly dump.
LATE = timedelta(days=7)


def create(run: ScheduledRun) -> list[str]:
    """Create the missing partitions; return their names."""
    with run.runtime.store.transaction() as tx:
        return list(partition_queries.create_partitions(tx))


def drop(run: ScheduledRun) -> list[str]:
    """Drop the partitions past their retention, the oldest first; return their names."""
    dropped = []
    for table, kept in _kept(run.runtime.settings).items():
        while (name := _drop_one(run, table, kept)) is not None:
            dropped.append(name)
    return dropped


def reach(bounds: Sequence[Bounds], now: datetime) -> datetime:
    """Return until when partitions follow each other without a gap; now if there is none."""
    until = now
    for begins, ends in bounds:
        if begins <= until < ends:
            until = ends
    return until


def faults(
    partitions: Mapping[str, Sequence[Bounds]], *, now: datetime, settings: Settings
) -> Iterator[str]:
    """Yield what is wrong with the partitions, with the remedy."""
    kept = _kept(settings)
    for table, bounds in sorted(partitions.items()):
        until = reach(bounds, now)
        if until - now < AHEAD:
            yield (
                f"{table} has no partition from {until.date()} on: move a table that has its name"
                " to another schema, and run clamor migrate"
            )
        if bounds and table in kept and bounds[0].ends + kept[table] + LATE < now:
            yield (
                f"{table} has a partition that is past its retention by more than"
                f" {LATE.days} days: run clamor schedule run clean_up while no dump or other long"
                " transaction is open"
            )


def _kept(settings: Settings) -> Mapping[str, timedelta]:
    """Return for how long the rows of each table are kept, without those that are kept forever."""
    days = {REQUESTS: settings.keep_requests_days, METRICS: settings.keep_runs_days}
    return {table: timedelta(days=each) for table, each in days.items() if each}


def _drop_one(run: ScheduledRun, table: str, kept: timedelta) -> str | None:
    run.lease.check()
    try:
        with run.runtime.store.transaction() as tx:
            return partition_queries.drop_partition(tx, table, older_than=kept)
    except OperationalError as error:
        if not isinstance(error.orig, errors.LockNotAvailable):
            raise
        # Readers and writers queue behind a statement that waits for this lock, so the next night
        # tries again.
        log.warning("partition_locked", table=table)
        return None
