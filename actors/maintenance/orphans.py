"""Find and mark blobs that no row names, and remove them a week later.

To a database that lacks rows (a restored dump, a wrong URL), every recording without a row looks
like such a blob. So a run that finds many of them marks none. A marked blob can be saved for days:
by its row coming back, or by an operator who reads the result.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import and_
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.sql.elements import ColumnElement

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.scheduling.job_runs import ScheduledRun
from db.blobs.keys import (
    CLIPS,
    EXPORTS,
    REPORTS,
    SESSIONS,
    TRAININGS,
    UPLOADS,
    VALIDATIONS,
    folder_id,
)
from db.queries import (
    export_queries,
    model_queries,
    old_row_queries,
    orphan_queries,
    report_queries,
    retention_queries,
    session_queries,
)
from db.tables.sessions import UNFINISHED_STATES, AudioSession

#: The keys in the folder of each ID.
Folders = Mapping[uuid.UUID, list[str]]
#: Returns those of the keys that rows name.
Known = Callable[[Session, Folders], set[str]]

#: The files of a form get their row after the last has arrived, and a direct upload to the store
#: when its owner confirms it. They may wait for it this many times as long as a single recording.
FORM_AGES = 24
#: More new orphans than both of these are not leftovers but the sign of a database that lacks rows.
MOST_SHARE, MOST_FILES = 0.1, 20
DAY_S = 86_400.0
#: Marked blobs removed between two checks of the claim.
PAGE_KEYS = 1_000


@dataclass(frozen=True, kw_only=True)
class Place:
    """A prefix of the blob store, and the function that finds its known keys."""

    prefix: str
    known: Known
    #: The least age of an orphan, as a multiple of `orphan_s`.
    ages: int = 1
    #: Whether its orphans count against `MOST_SHARE`. Not where they are normal, such as abandoned
    #: uploads.
    counts: bool = True


def remove(run: ScheduledRun, *, force: bool) -> tuple[int, int]:
    """Mark the old blobs that no row names, and remove those whose mark is old.

    Return how many were marked, and how many were removed.

    Raises
    ------
    Permanent
        ``too-many-orphans`` if there are too many new ones, unless ``force`` is set. Nothing is
        marked or removed then.
    """
    store = run.runtime.store
    with store.transaction() as tx:
        began_at = session_queries.clock(tx)
    n_files = n_new = 0
    for index, place in enumerate(PLACES):
        run.bar.tell(index / len(PLACES), f"scanning {place.prefix}")
        for page in old_keys(run.runtime, place):
            run.lease.check()
            found = unknown(run.runtime, place, page)
            with store.transaction() as tx:
                unmarked = orphan_queries.note_orphans(tx, found, seen_at=began_at)
            n_files += len(page) * place.counts
            n_new += unmarked * place.counts
    with store.transaction() as tx:
        orphan_queries.forget_others(tx, seen_at=began_at)
    if not force and n_new > max(MOST_FILES, MOST_SHARE * n_files):
        raise Permanent(
            "too-many-orphans",
            f"this database does not know {n_new} of {n_files} files in the blob store, so it may"
            " lack rows; nothing was removed. Their keys are in the table orphan_blobs; if they"
            " are not needed: clamor schedule run clean_up --force",
        )
    with store.transaction() as tx:
        marked = orphan_queries.mark_orphans(tx, seen_at=began_at)
    return marked, _remove_marked(run, began_at)


def unknown(runtime: Runtime, place: Place, page: Iterable[str]) -> list[str]:
    """Return the keys below a place that no row names.

    A key without an ID was not created by Clamor and is left alone.
    """
    folders: defaultdict[uuid.UUID, list[str]] = defaultdict(list)
    for key in page:
        if (found := folder_id(key)) is not None:
            folders[found].append(key)
    with runtime.store.transaction() as tx:
        known = place.known(tx, folders)
    return [key for keys in folders.values() for key in keys if key not in known]


def old_keys(runtime: Runtime, place: Place) -> Iterator[list[str]]:
    """Yield the keys below a place that are old enough to need a row, page by page."""
    return runtime.blobs.keys_older_than(runtime.settings.orphan_s * place.ages, place.prefix)


def _remove_marked(run: ScheduledRun, began_at: datetime) -> int:
    """Remove blobs whose mark is old and that this run found without a row; return their number."""
    runtime, removed = run.runtime, 0
    kept_s = runtime.settings.keep_orphans_days * DAY_S
    while True:
        run.lease.check()
        with runtime.store.transaction() as tx:
            page = orphan_queries.page_marked(
                tx, older_than_s=kept_s, seen_at=began_at, limit=PAGE_KEYS
            )
        if not page:
            return removed
        # Checked again, since the scan of the whole store took a while.
        still = [
            key
            for place in PLACES
            for key in unknown(runtime, place, (k for k in page if k.startswith(place.prefix)))
        ]
        runtime.blobs.delete(*still)
        with runtime.store.transaction() as tx:
            orphan_queries.forget(tx, page)
        removed += len(still)


def _in_folders_of(
    column: InstrumentedAttribute[uuid.UUID],
    tx: Session,
    folders: Folders,
    *,
    where: ColumnElement[bool] | None = None,
) -> set[str]:
    """Return all keys in folders whose ID is in the column, in the rows selected by ``where``."""
    known = session_queries.known_ids(tx, column, folders, where=where)
    return {key for each in known for key in folders[each]}


def _kept_clips(tx: Session, folders: Folders) -> set[str]:
    """Return the kept clips."""
    return retention_queries.kept_keys(tx, (key for keys in folders.values() for key in keys))


def _report_pages(tx: Session, folders: Folders) -> set[str]:
    """Return the current page of each report. Earlier ones are not needed."""
    return report_queries.known_pages(tx, list(folders))


PLACES = (
    Place(prefix=SESSIONS, known=partial(_in_folders_of, AudioSession.id)),
    # The session of an upload has the same ID, and needs the upload until it is copied.
    Place(
        prefix=UPLOADS,
        known=partial(
            _in_folders_of,
            AudioSession.id,
            where=and_(
                AudioSession.size_bytes.is_(None), AudioSession.state.in_(UNFINISHED_STATES)
            ),
        ),
        ages=FORM_AGES,
        counts=False,
    ),
    Place(prefix=TRAININGS, known=model_queries.named_keys, ages=FORM_AGES),
    Place(prefix=CLIPS, known=_kept_clips),
    Place(prefix=EXPORTS, known=export_queries.needed_keys),
    Place(prefix=REPORTS, known=_report_pages, counts=False),
    Place(prefix=VALIDATIONS, known=old_row_queries.validation_keys, ages=FORM_AGES),
)
