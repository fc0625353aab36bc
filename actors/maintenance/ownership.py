"""A database may remove blobs only from its own store (:mod:`db.ownership`)."""

from __future__ import annotations

import msgspec
import structlog

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.maintenance import orphans
from db import ownership
from db.queries import orphan_queries, session_queries

log = structlog.get_logger(__name__)


class NotOurs(Permanent):
    """The blob store belongs to another database, or may do so."""

    def __init__(self, detail: str) -> None:
        super().__init__("blob-store-not-ours", detail)


def settle(runtime: Runtime, *, force: bool = False) -> bool:
    """Ensure that the blob store belongs to this database; False while that is undecided.

    A store without an owner becomes this database's if its files do. With ``force`` it always
    does, and marks made by another database are dropped.

    Raises
    ------
    NotOurs
        If the store belongs to another database, or has files without a row in this one.
    """
    ours, found = ownership.of_database(runtime.store), ownership.of_blobs(runtime.blobs)
    if ours.is_same(found):
        return True
    if not force:
        _require(ours, found)
        if not _knows_its_files(runtime):
            return False
    with runtime.store.transaction() as tx:
        orphan_queries.forget_all(tx)
    taken = ownership.take(runtime.store, runtime.blobs, is_restored=force)
    log.warning(
        "blob_store_taken", by=msgspec.to_builtins(taken), before=msgspec.to_builtins(found)
    )
    return True


def require(runtime: Runtime) -> None:
    """Raise :class:`NotOurs` if the blob store belongs to another database."""
    _require(ownership.of_database(runtime.store), ownership.of_blobs(runtime.blobs))


def restored_s(runtime: Runtime) -> float | None:
    """Return how many seconds ago this database was restored; None if it was not."""
    found = ownership.noting_restore(runtime.store, runtime.blobs)
    if found is None or found.restored_at is None:
        return None
    with runtime.store.transaction() as tx:
        return (session_queries.clock(tx) - found.restored_at).total_seconds()


def _require(ours: ownership.Owner, found: ownership.Owner | None) -> None:
    objection = ownership.objection(ours, found)
    if objection is not None:
        raise NotOurs(objection)


def _knows_its_files(runtime: Runtime) -> bool:
    """Whether rows name nearly all files of a sample of the store.

    False while the others are so young that their rows may still follow; raise
    :class:`NotOurs` if some are old.
    """
    n_files = n_unknown = 0
    any_old = False
    for place in orphans.PLACES:
        if not place.counts:
            continue
        page = next(runtime.blobs.keys_older_than(0.0, place.prefix), [])
        unknown = orphans.unknown(runtime, place, page)
        old = next(orphans.old_keys(runtime, place), []) if unknown else []
        n_files += len(page)
        n_unknown += len(unknown)
        any_old |= not {*unknown}.isdisjoint(old)
    if n_unknown <= orphans.MOST_SHARE * n_files:
        return True
    if any_old:
        raise NotOurs(
            ownership.with_remedy(
                f"the blob store has no owner, and this database does not know {n_unknown} of"
                f" {n_files} files in it"
            )
        )
    return False
