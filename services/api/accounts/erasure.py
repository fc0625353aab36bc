"""Erase a user: every row and every blob of theirs, with a receipt.

Shared by ``DELETE /v1/users/{user_id}`` and ``clamor user erase``.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy.orm import Session

from db.blobs.blob_store import Blobs
from db.blobs.keys import TRAININGS, UPLOADS, VALIDATIONS
from db.queries import erasure_queries, old_row_queries, removal_queries, removed_blob_queries
from db.queries.removal_queries import SessionFilter
from db.store import Store
from services.api.common.errors import UnderLegalHold
from services.http.not_found import or_404

#: Sessions, and spans of theirs, erased in one transaction.
PAGE_SESSIONS, PAGE_SPANS = 50, 2_000
#: A call ends after the transaction in which it has lasted this long. The caller repeats it.
LASTS_S = 1.0


class Erasure(msgspec.Struct, kw_only=True):
    """The receipt of a call that erases a user: what this call removed."""

    user_id: uuid.UUID
    #: Whether nothing is left of the user. Else repeat the call, and add up the receipts.
    done: bool
    #: Rows by table.
    rows: dict[str, int]
    #: Stored files. Workers remove them within seconds.
    blobs: int
    #: Models that learned from recordings of the user. Those that are still stored are not changed.
    trained_models: list[uuid.UUID]
    #: Models of the user that stay, without their user, since they are in use.
    models_in_use: list[uuid.UUID]


class Eraser:
    """One call."""

    def __init__(self, store: Store, blobs: Blobs, user_id: uuid.UUID) -> None:
        self._store = store
        self._blobs = blobs
        self._user_id = user_id
        self._rows: Counter[str] = Counter()
        self._n_blobs = 0
        self._trained: set[uuid.UUID] = set()
        self._in_use: set[uuid.UUID] = set()

    def run(self, *, lasts_s: float) -> Erasure:
        """Erase as much as there is time for.

        Raises
        ------
        NotFound, UnderLegalHold
        """
        with self._store.transaction() as tx:
            begun = erasure_queries.begin(tx, self._user_id)
        or_404(begun is not None, "user", self._user_id)
        if not begun:
            raise UnderLegalHold(f"a session of the user {self._user_id} is under legal hold")
        ends_at = time.monotonic() + lasts_s
        is_late = False
        for step in (self._sessions, self._requests, self._labelled):
            while not is_late and step():
                is_late = time.monotonic() >= ends_at
        done = not is_late and self._rest()
        return Erasure(
            user_id=self._user_id,
            done=done,
            rows={name: n_rows for name, n_rows in sorted(self._rows.items()) if n_rows},
            blobs=self._n_blobs,
            trained_models=sorted(self._trained),
            models_in_use=sorted(self._in_use),
        )

    # Each of the first steps erases a page, and returns whether more may be left.

    def _sessions(self) -> bool:
        which = SessionFilter(owner=self._user_id)
        with self._counting_blobs() as tx:
            ids = removal_queries.page(tx, which, limit=PAGE_SESSIONS, most_spans=PAGE_SPANS)
            self._trained |= erasure_queries.erase_sessions(tx, ids, self._rows)
        return bool(ids)

    def _requests(self) -> bool:
        with self._store.transaction() as tx:
            return erasure_queries.erase_requests(tx, self._user_id, self._rows)

    def _labelled(self) -> bool:
        with self._counting_blobs() as tx:
            return erasure_queries.erase_labelled(tx, self._user_id, self._rows, self._trained)

    def _rest(self) -> bool:
        """Erase the rest and the user; False if the user has got sessions meanwhile."""
        uploads = [key for key in self._blobs.keys(UPLOADS) if key.endswith(f"/{self._user_id}")]
        with self._counting_blobs() as tx:
            in_use = erasure_queries.finish(tx, self._user_id, self._rows)
            if in_use is not None:
                removed_blob_queries.note_removed(tx, uploads)
                self._in_use |= in_use
        return in_use is not None

    @contextmanager
    def _counting_blobs(self) -> Iterator[Session]:
        """Count the blobs that a transaction leaves without a row."""
        with self._store.transaction() as tx:
            yield tx
            n_blobs = self._count(removed_blob_queries.noted_now(tx), _models_of(tx))
        self._n_blobs += n_blobs

    def _count(self, prefixes: Iterable[str], of_models: Callable[[list[str]], set[str]]) -> int:
        n_blobs = 0
        for prefix in prefixes:
            keys = self._blobs.named_by(prefix)
            stay = of_models(keys) if prefix.startswith((TRAININGS, VALIDATIONS)) else set()
            n_blobs += len([key for key in keys if key not in stay])
        return n_blobs


def _models_of(tx: Session) -> Callable[[list[str]], set[str]]:
    return lambda keys: old_row_queries.files_of_models(tx, keys)
