"""The owner of the blob store: the installation, and the one database of it that uses the store.

A fresh database has another installation ID; a dump restored elsewhere has the same ID but is
another database. Neither has a row for every recording in the store.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated

import msgspec

from db import typed
from db.blobs.blob_store import Blobs
from db.blobs.errors import BlobMissing
from db.blobs.keys import OWNER
from db.queries import orphan_queries, session_queries
from db.store import Store

TAKE_OVER = "clamor schedule run clean_up --force"


class Owner(msgspec.Struct, frozen=True):
    """The content of the owner blob."""

    installation_id: uuid.UUID
    database: str
    #: Changes when the database is restored in its place (:mod:`db.queries.orphan_queries`).
    incarnation: str = ""
    #: When this database took the store over, or was last restored; None if neither happened.
    restored_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None

    def is_same(self, other: Owner | None) -> bool:
        """Whether both are the same database, before or after a restore in its place."""
        return other is not None and (
            (self.installation_id, self.database) == (other.installation_id, other.database)
        )


#: Stands for an owner blob that cannot be read: some other owner.
UNREADABLE = Owner(uuid.UUID(int=0), "")


def of_database(store: Store) -> Owner:
    """Return the owner that a database makes."""
    with store.transaction() as tx:
        return Owner(*orphan_queries.identity(tx))


def of_blobs(blobs: Blobs) -> Owner | None:
    """Return the owner that a blob store names; None if it names none."""
    try:
        return typed.decode(blobs.get(OWNER), Owner)
    except BlobMissing:
        return None
    except msgspec.DecodeError:
        return UNREADABLE


def take(store: Store, blobs: Blobs, *, is_restored: bool) -> Owner:
    """Make a database the owner of a blob store, and return the owner.

    ``is_restored`` notes the present time as that of a restore.
    """
    with store.transaction() as tx:
        now = session_queries.clock(tx) if is_restored else None
        owner = Owner(*orphan_queries.identity(tx), restored_at=now)
    blobs.put(OWNER, msgspec.json.encode(owner))
    return owner


def noting_restore(store: Store, blobs: Blobs) -> Owner | None:
    """Return the owner of a blob store, after noting a restore of its database in its place.

    The time is that of the first call after the restore, since the database has no other.
    """
    ours, found = of_database(store), of_blobs(blobs)
    if found is not None and ours.is_same(found) and ours.incarnation != found.incarnation:
        return take(store, blobs, is_restored=True)
    return found


def objection(ours: Owner, found: Owner | None) -> str | None:
    """Return why a database must not change a store, with the remedy; None if it may.

    It may if the store has no owner yet.
    """
    if found is None or found.is_same(ours):
        return None
    if found.is_same(UNREADABLE):
        return with_remedy(f"the blob {OWNER}, which names the store's owner, is damaged")
    if found.installation_id != ours.installation_id:
        return with_remedy(
            f"the blob store belongs to another installation, {found.installation_id}"
        )
    return with_remedy(
        "the blob store is used by another database of this installation; this one was restored"
        " from a dump, or moved"
    )


def with_remedy(reason: str) -> str:
    """Return the reason of a refusal, with what to do."""
    remedy = "check DATABASE_URL and BLOB_URL; if both are right, take the store over by"
    return f"{reason}; {remedy}: {TAKE_OVER}"
