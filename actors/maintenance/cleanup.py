"""``clean_up``: remove orphaned blobs, expired exports, and rows past their retention.

It also creates the partitions of the coming months (:mod:`actors.maintenance.partitions`).

An upload stores its files before it writes its row. A process that dies in between, or a database
that does not respond, leaves blobs without a row. A killed writer leaves an incomplete blob, and a
training killed at its end leaves an unregistered model. A direct upload to the store may never
become a session. Leftovers of sessions that are in the database are removed by recovery.

Rows are removed page by page, and first; then their blobs. A worker that dies in between leaves
blobs without rows. Blobs are removed only from a store that belongs to this database
(:mod:`db.ownership`), and those that no row names not at once (:mod:`actors.maintenance.orphans`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import msgspec
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from actors.maintenance import orphans, ownership, partitions, secrets
from actors.messaging.messages import CleanUp
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from db.blobs.keys import export_prefix, report_prefix, training_prefix, validation_prefix
from db.queries import (
    delivery_queries,
    export_queries,
    idempotency_queries,
    old_row_queries,
    request_queries,
)
from db.tables.documents.job_results import CleanUpResult

DAY_S = 86_400.0
#: Rows removed per transaction.
PAGE_ROWS = 1_000
#: Trainings or validations removed per transaction: each may have thousands of clips or recordings.
PAGE_LABELLED = 10


class CleanUpOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The options of a run."""

    #: Take the blob store over from another database, and mark any number of orphans. Marked
    #: blobs are still kept for the usual time.
    force: bool = False


def clean_up(runtime: Runtime, nudge: CleanUp) -> None:
    """Remove old blobs that no row names, and old rows."""
    job_runs.run(runtime, nudge, _clean_up)


def _clean_up(run: ScheduledRun) -> CleanUpResult:
    runtime, force = run.runtime, run.asked(CleanUpOptions).force
    keep = runtime.settings
    result = CleanUpResult(
        partitions_created=partitions.create(run),
        partitions_dropped=partitions.drop(run),
        deliveries=_remove_rows(
            run, delivery_queries.remove_old_deliveries, days=keep.keep_deliveries_days
        ),
        answers=_remove_rows(
            run, idempotency_queries.remove_old_answers, days=idempotency_queries.KEPT_S / DAY_S
        ),
        minutes=_remove_rows(run, request_queries.remove_old_minutes, days=keep.keep_requests_days),
        runs=_remove_rows(run, old_row_queries.remove_old_runs, days=keep.keep_runs_days),
        batches=_remove_rows(run, old_row_queries.remove_old_batches, days=keep.keep_batches_days),
        resealed=secrets.reseal(runtime),
    )
    # While the owner of the store is undecided, nothing in it is old enough to be removed.
    if ownership.settle(runtime, force=force):
        result["exports"] = _remove_files(run, export_queries.remove_expired, export_prefix)
        result["reports"] = _remove_old_files(
            run, old_row_queries.remove_old_reports, report_prefix, days=keep.keep_reports_days
        )
        result["trainings"] = _remove_old_files(
            run,
            old_row_queries.remove_old_trainings,
            training_prefix,
            days=keep.keep_trainings_days,
            limit=PAGE_LABELLED,
        )
        result["validations"] = _remove_old_files(
            run,
            old_row_queries.remove_old_validations,
            validation_prefix,
            days=keep.keep_validations_days,
            limit=PAGE_LABELLED,
        )
        result["unfinished"] = runtime.blobs.remove_unfinished(age_s=runtime.settings.orphan_s)
        result["marked"], result["orphans"] = orphans.remove(run, force=force)
    return result


class _Remove(Protocol):
    """Removes some rows older than this; returns their number, or 0 if there are no more."""

    def __call__(self, tx: Session, *, older_than_s: float, limit: int) -> int: ...


def _remove_rows(run: ScheduledRun, remove: _Remove, *, days: float) -> int:
    """Remove rows older than some days, a page at a time; return their number. 0 days keep all."""
    removed = 0
    while days:
        run.lease.check()
        with run.runtime.store.transaction() as tx:
            n_page = remove(tx, older_than_s=days * DAY_S, limit=PAGE_ROWS)
        removed += n_page
        if not n_page:
            break
    return removed


class _RemoveWithFiles(Protocol):
    """Removes some rows; returns their IDs, or none if there are no more."""

    def __call__(self, tx: Session, *, limit: int) -> Sequence[uuid.UUID]: ...


class _RemoveOldWithFiles(Protocol):
    """Removes some rows older than this; returns their IDs, or none if there are no more."""

    def __call__(self, tx: Session, *, older_than_s: float, limit: int) -> Sequence[uuid.UUID]: ...


def _remove_old_files(
    run: ScheduledRun,
    remove: _RemoveOldWithFiles,
    prefix: Callable[[uuid.UUID], str],
    *,
    days: float,
    limit: int = PAGE_ROWS,
) -> int:
    """Remove rows older than some days with their files; return their number. 0 days keep all."""
    if not days:
        return 0
    return _remove_files(run, partial(remove, older_than_s=days * DAY_S), prefix, limit=limit)


def _remove_files(
    run: ScheduledRun,
    remove: _RemoveWithFiles,
    prefix: Callable[[uuid.UUID], str],
    *,
    limit: int = PAGE_ROWS,
) -> int:
    """Remove rows with their files, but not those of models; return their number."""
    runtime, removed = run.runtime, 0
    while True:
        run.lease.check()
        with runtime.store.transaction() as tx:
            page = remove(tx, limit=limit)
        if not page:
            return removed
        for each in page:
            keys = list(runtime.blobs.keys(prefix(each)))
            with runtime.store.transaction() as tx:
                kept = old_row_queries.files_of_models(tx, keys)
            runtime.blobs.delete(*(key for key in keys if key not in kept))
        removed += len(page)
