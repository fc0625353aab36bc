"""``clean_up``: removes blobs that no session knows of.

An upload stores its recording first and writes its row then. A process that dies in between, or a
database that does not answer, leaves a blob without a row; a writer that is killed leaves half a
blob. What a session leaves that is in the database is the steward's.
"""

from __future__ import annotations

import uuid
from collections import defaultdict

from actors import runs, watchdog
from actors.messages import CleanUp
from actors.runtime import Runtime
from db import queries

#: Below this, each session has a folder of its id.
SESSIONS = "sessions/"


def clean_up(runtime: Runtime, nudge: CleanUp) -> None:
    """Remove the blobs of sessions that are not in the database, if they are old enough."""
    age_s = runtime.settings.orphan_s
    deadline_s = watchdog.deadline_s(type(nudge), runtime.settings)
    with runs.recorded(nudge.actor) as run, runtime.watchdog.over(run, deadline_s):
        removed = 0
        for page in runtime.blobs.keys_older_than(age_s, SESSIONS):
            orphans = _orphans(runtime, page)
            runtime.blobs.delete(*orphans)
            removed += len(orphans)
        unfinished = runtime.blobs.remove_unfinished(age_s=age_s)
        run.end("done", orphans=removed, unfinished=unfinished)


def _orphans(runtime: Runtime, keys: list[str]) -> list[str]:
    """Those of some keys whose session is not in the database."""
    by_session: defaultdict[uuid.UUID, list[str]] = defaultdict(list)
    for key in keys:
        try:
            by_session[uuid.UUID(key.split("/")[1])].append(key)
        except ValueError:
            # Not made by Clamor, which is no reason to remove it.
            continue
    with runtime.store.transaction() as db:
        known = queries.known_sessions(db, by_session)
    return [key for session, of_it in by_session.items() if session not in known for key in of_it]
