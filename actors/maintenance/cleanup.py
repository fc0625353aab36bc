"""``clean_up``: remove orphaned blobs, expired exports, and old rows of webhooks and requests.

An upload stores its files before it writes its row. A process that dies in between, or a database
that does not respond, leaves blobs without a row. A killed writer leaves an incomplete blob, and a
training killed at its end leaves an unregistered model. A direct upload to the store may never
become a session. Leftovers of sessions that are in the database are removed by recovery.

Blobs are removed only from a store that belongs to this database
(:mod:`db.ownership`), and not at once (:mod:`actors.maintenance.orphans`).
"""

from __future__ import annotations

from typing import Protocol

import msgspec
from sqlalchemy.orm import Session

from actors.execution.runtime import Runtime
from actors.maintenance import orphans, ownership
from actors.messaging.messages import CleanUp
from actors.scheduling import job_runs
from actors.scheduling.job_runs import ScheduledRun
from db.blobs.keys import export_prefix
from db.queries import delivery_queries, export_queries, idempotency_queries, request_queries
from db.tables.documents.job_results import CleanUpResult

DAY_S = 86_400.0
#: How long webhook deliveries are kept.
DELIVERIES_KEPT_S = 30 * DAY_S
#: Rows removed per transaction.
PAGE_ROWS = 1_000


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
    deliveries = _remove_rows(
        runtime, delivery_queries.remove_old_deliveries, older_than_s=DELIVERIES_KEPT_S
    )
    requests = _remove_rows(
        runtime,
        request_queries.remove_old_requests,
        older_than_s=runtime.settings.keep_requests_days * DAY_S,
    )
    answers = _remove_rows(
        runtime, idempotency_queries.remove_old_answers, older_than_s=idempotency_queries.KEPT_S
    )
    result = CleanUpResult(deliveries=deliveries, requests=requests, answers=answers)
    # While the owner of the store is undecided, nothing in it is old enough to be removed.
    if ownership.settle(runtime, force=force):
        result["exports"] = _remove_exports(run)
        result["unfinished"] = runtime.blobs.remove_unfinished(age_s=runtime.settings.orphan_s)
        result["marked"], result["orphans"] = orphans.remove(run, force=force)
    return result


class _Remove(Protocol):
    """Removes some rows older than this; returns their number."""

    def __call__(self, tx: Session, *, older_than_s: float, limit: int) -> int: ...


def _remove_rows(runtime: Runtime, remove: _Remove, *, older_than_s: float) -> int:
    """Remove old rows, a page at a time; return their number."""
    removed = 0
    while True:
        with runtime.store.transaction() as tx:
            n_page = remove(tx, older_than_s=older_than_s, limit=PAGE_ROWS)
        removed += n_page
        if n_page < PAGE_ROWS:
            return removed


def _remove_exports(run: ScheduledRun) -> int:
    """Remove expired exports with their files; return their number."""
    runtime, removed = run.runtime, 0
    while True:
        run.lease.check()
        with runtime.store.transaction() as tx:
            page = export_queries.remove_expired(tx, limit=PAGE_ROWS)
        for export_id in page:
            runtime.blobs.delete(*runtime.blobs.keys(export_prefix(export_id)))
        removed += len(page)
        if len(page) < PAGE_ROWS:
            return removed
