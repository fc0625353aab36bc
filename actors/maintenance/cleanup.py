"""``clean_up``: removes blobs that no row knows of, exports whose time is over, and rows about
webhooks and requests of long ago.

An upload stores its files first and writes its row then. A process that dies in between, or a
database that does not answer, leaves blobs without a row; a writer that is killed leaves half a
blob, and a training that is killed at its end leaves a model that was never registered. What was
put into the store by its owner may never be made a session of. What a
session leaves that is in the database is the steward's.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import and_
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from actors import clock
from actors.clock import Turn
from actors.messages import CleanUp
from actors.runtime import Runtime
from db import (
    export_queries,
    idempotency_queries,
    model_queries,
    queries,
    report_queries,
    request_queries,
    upkeep_queries,
    webhook_queries,
)
from db.blobs import (
    CLIPS,
    EXPORTS,
    REPORTS,
    SESSIONS,
    TRAININGS,
    UPLOADS,
    VALIDATIONS,
    export_prefix,
)
from db.models import UNFINISHED_STATES, AudioSession
from db.training_models import Validation

#: The keys that lie in the folder of each id, by the id.
Folders = Mapping[uuid.UUID, list[str]]
#: Gives those of some keys that rows know of.
Known = Callable[[Session, Folders], set[str]]

#: The files of a form get their row when all of them are there, and an upload that went straight
#: to the store when its owner says so: they may wait for it so many times as long as a single
#: recording.
FORM_AGES = 24
DAY_S = 86_400.0
#: How long it can be looked up what a webhook was told.
DELIVERIES_KEPT_S = 30 * DAY_S
#: How many rows are removed in one transaction.
PAGE_ROWS = 1_000


def clean_up(runtime: Runtime, nudge: CleanUp) -> None:
    """Remove the blobs that no row knows of, if they are old enough, and rows of long ago."""
    clock.run(runtime, nudge, _clean_up)


def _clean_up(turn: Turn) -> dict[str, Any]:
    runtime = turn.runtime
    age_s = runtime.settings.orphan_s
    removed = 0
    for index, (prefix, known, ages) in enumerate(_PLACES):
        turn.bar.tell(index / len(_PLACES), f"looking below {prefix}")
        removed += _remove_orphans(turn, prefix, known, age_s=age_s * ages)
    unfinished = runtime.blobs.remove_unfinished(age_s=age_s)
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
    exports = _remove_exports(turn)
    return {
        "orphans": removed,
        "unfinished": unfinished,
        "deliveries": deliveries,
        "requests": requests,
        "answers": answers,
        "exports": exports,
    }


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
        turn.hold.check()
        with runtime.store.transaction() as db:
            page = export_queries.remove_expired(db, limit=PAGE_ROWS)
        for export_id in page:
            runtime.blobs.delete(*runtime.blobs.keys(export_prefix(export_id)))
        removed += len(page)
        if len(page) < PAGE_ROWS:
            return removed


def _remove_orphans(turn: Turn, prefix: str, known: Known, *, age_s: float) -> int:
    """Remove old blobs below a prefix that are not known; how many."""
    removed = 0
    runtime = turn.runtime
    for page in runtime.blobs.keys_older_than(age_s, prefix):
        turn.hold.check()
        folders: defaultdict[uuid.UUID, list[str]] = defaultdict(list)
        for key in page:
            try:
                folders[uuid.UUID(key.split("/")[1])].append(key)
            except ValueError:
                # Not made by Clamor, which is no reason to remove it.
                continue
        with runtime.store.transaction() as db:
            needed = known(db, folders)
        orphans = [key for keys in folders.values() for key in keys if key not in needed]
        runtime.blobs.delete(*orphans)
        removed += len(orphans)
    return removed


def _in_folders_of(
    column: InstrumentedAttribute[uuid.UUID],
    db: Session,
    folders: Folders,
    *,
    where: ColumnElement[bool] | None = None,
) -> set[str]:
    """All that lies in a folder whose id the column has, in the rows that are asked about."""
    known = queries.known_ids(db, column, folders, where=where)
    return {key for each in known for key in folders[each]}


def _kept_clips(db: Session, folders: Folders) -> set[str]:
    """The clips that are kept."""
    return upkeep_queries.kept_keys(db, (key for keys in folders.values() for key in keys))


def _report_pages(db: Session, folders: Folders) -> set[str]:
    """The page of each report; those of before are of no use."""
    return report_queries.known_pages(db, list(folders))


#: Where to look, what is known there, and how many times `orphan_s` a blob has to be old.
_PLACES: tuple[tuple[str, Known, int], ...] = (
    (SESSIONS, partial(_in_folders_of, AudioSession.id), 1),
    # The session of an upload bears its id, and needs it until it has been copied.
    (
        UPLOADS,
        partial(
            _in_folders_of,
            AudioSession.id,
            where=and_(
                AudioSession.size_bytes.is_(None), AudioSession.state.in_(UNFINISHED_STATES)
            ),
        ),
        FORM_AGES,
    ),
    (TRAININGS, model_queries.named_keys, FORM_AGES),
    (CLIPS, _kept_clips, 1),
    (EXPORTS, export_queries.needed_keys, 1),
    (REPORTS, _report_pages, 1),
    (VALIDATIONS, partial(_in_folders_of, Validation.id), FORM_AGES),
)
