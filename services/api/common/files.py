"""Files that a request uploads, and the row that refers to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.blobs.blob_store import Blobs
from db.store import Store
from services.http.blob_removal import left_to_clean_up

#: Bytes per read.
PIECE_BYTES = 256 * 1024


@contextmanager
def row_of(*keys: str, store: Store, blobs: Blobs) -> Iterator[Session]:
    """Open the transaction that writes the row for blobs stored under ``keys``.

    If it fails before the commit, the blobs are removed: no row refers to them. If the commit
    itself fails, the row may exist, so the blobs are left to ``clean_up``. If a row with the same
    ID exists (from an earlier attempt of the same request), the blobs belong to that row.
    """
    at_commit = False
    try:
        with store.transaction() as tx:
            yield tx
            at_commit = True
    except IntegrityError:
        raise
    except Exception:
        if not at_commit:
            with left_to_clean_up("upload_not_removed", keys=keys):
                blobs.delete(*keys)
        raise
