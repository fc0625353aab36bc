"""The owner of the blob store: a database may remove blobs only from its own store.

A blob names the owner: the installation, and the one database of it that uses the store. A fresh
database has another installation ID; a dump restored elsewhere has the same ID but is another
database. Neither has a row for every recording in the store.
"""

from __future__ import annotations

import uuid

import msgspec
import structlog

from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.maintenance import orphans
from db.blobs.errors import BlobMissing
from db.blobs.keys import OWNER
from db.queries import orphan_queries

log = structlog.get_logger(__name__)

TAKE_OVER = "clamor schedule run clean_up --force"


class NotOurs(Permanent):
    """The blob store belongs to another database, or may do so."""

    def __init__(self, reason: str) -> None:
        remedy = "check DATABASE_URL and BLOB_URL; if both are right, take the store over by"
        super().__init__("blob-store-not-ours", f"{reason}; {remedy}: {TAKE_OVER}")


class Owner(msgspec.Struct, frozen=True):
    """The content of the owner blob."""

    installation_id: uuid.UUID
    database: str


#: Stands for an owner blob that cannot be read: some other owner.
UNREADABLE = Owner(uuid.UUID(int=0), "")


def settle(runtime: Runtime, *, force: bool = False) -> bool:
    """Ensure that the blob store belongs to this database; False while that is undecided.

    A store without an owner becomes this database's if its files do. With ``force`` it always
    does, and marks made by another database are dropped.

    Raises
    ------
    NotOurs
        If the store belongs to another database, or has files without a row in this one.
    """
    ours, found = _ours(runtime), _found(runtime)
    if found == ours:
        return True
    if not force:
        _require(ours, found)
        if not _knows_its_files(runtime):
            return False
    with runtime.store.transaction() as tx:
        orphan_queries.forget_all(tx)
    runtime.blobs.put(OWNER, msgspec.json.encode(ours))
    log.warning("blob_store_taken", by=msgspec.to_builtins(ours), before=msgspec.to_builtins(found))
    return True


def require(runtime: Runtime) -> None:
    """Raise :class:`NotOurs` if the blob store belongs to another database."""
    _require(_ours(runtime), _found(runtime))


def _require(ours: Owner, found: Owner | None) -> None:
    if found is None or found == ours:
        return
    if found == UNREADABLE:
        raise NotOurs(f"the blob {OWNER}, which names the store's owner, is damaged")
    if found.installation_id != ours.installation_id:
        raise NotOurs(f"the blob store belongs to another installation, {found.installation_id}")
    raise NotOurs(
        "the blob store is used by another database of this installation; this one was restored"
        " from a dump, or moved"
    )


def _ours(runtime: Runtime) -> Owner:
    with runtime.store.transaction() as tx:
        return Owner(*orphan_queries.identity(tx))


def _found(runtime: Runtime) -> Owner | None:
    try:
        return msgspec.json.decode(runtime.blobs.get(OWNER), type=Owner)
    except BlobMissing:
        return None
    except msgspec.DecodeError:
        return UNREADABLE


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
            f"the blob store has no owner, and this database does not know {n_unknown} of"
            f" {n_files} files in it"
        )
    return False
