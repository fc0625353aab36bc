"""Remove the blobs of removed rows (:mod:`db.queries.removed_blob_queries`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from actors.execution import watchdog
from actors.execution.runtime import Runtime
from actors.maintenance import orphans
from db.queries import removed_blob_queries


def purge(runtime: Runtime, prefixes: Sequence[str]) -> int:
    """Remove the blobs with some prefixes, then record it; return the number of blobs.

    Those that a row names stay: the file of a model outlives its training, and a batch that is sent
    again with its ID has sessions with the same IDs.
    """
    found: defaultdict[orphans.Place, list[str]] = defaultdict(list)
    for prefix in prefixes:
        place = next((each for each in orphans.PLACES if prefix.startswith(each.prefix)), None)
        if place is not None:
            found[place] += runtime.blobs.named_by(prefix)
    n_blobs = 0
    for place, keys in found.items():
        unneeded = orphans.unknown(runtime, place, keys)
        runtime.blobs.delete(*unneeded)
        n_blobs += len(unneeded)
    with runtime.store.transaction() as tx:
        silent_after_s = watchdog.silent_after_s(runtime.settings)
        removed_blob_queries.note_purged(tx, prefixes, silent_after_s=silent_after_s)
    return n_blobs
