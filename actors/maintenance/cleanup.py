"""``clean_up``: removes blobs that no row names, exports whose time is over, and rows about
webhooks and requests of long ago.

An upload stores its files first and writes its row then. A process that dies in between, or a
database that does not answer, leaves blobs without a row; a writer that is killed leaves half a
blob, and a training that is killed at its end leaves a model that was never registered. What was
put into the store by its owner may never be made a session of. What a
session leaves that is in the database is recovery's.

Blobs are removed only from a store that is this database's (:mod:`actors.maintenance.ownership`),
and not at once (:mod:`actors.maintenance.orphans`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actors.execution.runtime import Runtime
from actors.maintenance import orphans, ownership
from actors.messaging.messages import CleanUp
from actors.scheduling import job_runs
from actors.scheduling.job_runs import Turn
from db.blobs import export_prefix
from db.queries import export_queries, idempotency_queries, request_queries, webhook_queries

DAY_S = 86_400.0
#: How long it can be looked up what a webhook was told.
DELIVERIES_KEPT_S = 30 * DAY_S
#: How many rows are removed in one transaction.
PAGE_ROWS = 1_000


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a run may be asked to do otherwise than usual."""

    #: Take the blob store over from another database, and mark any number of orphans. What is
    #: marked is kept for as long as ever.
    force: bool = False


def clean_up(runtime: Runtime, nudge: CleanUp) -> None:
    """Remove the blobs that no row names, if they are old enough, and rows of long ago."""
    job_runs.run(runtime, nudge, _clean_up)


def _clean_up(turn: Turn) -> dict[str, Any]:
    runtime, force = turn.runtime, turn.asked(Options).force
    deliveries = _remove_rows(
        runtime, webhook_queries.remove_old_deliveries, older_than_s=DELIVERIES_KEPT_S
    )
    requests = _remove_rows(
        runtime, request_queries.remove_old_requests,
        older_than_s=runtime.settings.keep_requests_days * DAY_S,
    )  # fmt: skip
    answers = _remove_rows(
        runtime, idempotency_queries.remove_old_answers, older_than_s=idempotency_queries.KEPT_S
    )
    result = {"deliveries": deliveries, "requests": requests, "answers": answers}
    # While it is not decided whose the store is, nothing in it is old enough to be removed.
    if ownership.settle(runtime, force=force):
        result["exports"] = _remove_exports(turn)
        result["unfinished"] = runtime.blobs.remove_unfinished(age_s=runtime.settings.orphan_s)
        result |= orphans.remove(turn, force=force)
    return result


def _remove_rows(runtime: Runtime, remove: Callable[..., int], *, older_than_s: float) -> int:
    """Remove rows that are so old that nobody asks for them, a page at a time; how many."""
    removed = 0
    while True:
        with runtime.store.transaction() as db:
            n_page = remove(db, older_than_s=older_than_s, limit=PAGE_ROWS)
        removed += n_page
        if n_page < PAGE_ROWS:
            return removed


def _remove_exports(turn: Turn) -> int:
    """Remove exports whose time is over, with their files; how many."""
    runtime, removed = turn.runtime, 0
    while True:
        turn.lease.check()
        with runtime.store.transaction() as db:
            page = export_queries.remove_expired(db, limit=PAGE_ROWS)
        for export_id in page:
            runtime.blobs.delete(*runtime.blobs.keys(export_prefix(export_id)))
        removed += len(page)
        if len(page) < PAGE_ROWS:
            return removed
