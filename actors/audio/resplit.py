"""Decode a recording again if its decoded audio or levels are missing, or its audio is damaged.

A restored database, or a store that lost files, leaves unfinished sessions without their products.
All of these can be made from the recording.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy.orm import Session

from actors.audio import privacy
from actors.execution import runner
from actors.execution.failures import Permanent
from actors.execution.runtime import Runtime
from actors.messaging.messages import Nudge, SplitRecording
from db.blobs.errors import BlobMissing
from db.queries import span_queries
from db.queue.claims import SessionWork
from db.tables.sessions import AudioSession

log = structlog.get_logger(__name__)

#: How often a session is split again at most. Once is enough after a restore; a store that keeps
#: losing files must not cause endless decoding.
MOST_RESPLITS = 2


def instead(
    runtime: Runtime, session: AudioSession, work: SessionWork, missing: BlobMissing
) -> runner.Result:
    """Return the result of a task with a missing product, which splits the session again.

    Raises
    ------
    BlobMissing
        If the recording is missing too.
    Permanent
        ``audio-removed`` if the recording was removed for privacy.
        ``decoded-audio-missing`` if the session has already been split again `MOST_RESPLITS` times.
    """
    with privacy.audio_is_needed(session):
        runtime.blobs.size(session.recording_key)
    if work.resplits >= MOST_RESPLITS:
        raise Permanent(
            "decoded-audio-missing",
            f"the decoded audio was missing or damaged in the blob store {MOST_RESPLITS + 1} times;"
            " check what removes or changes files there, and send the recording again",
        )
    log.warning("product_missing", session_id=str(session.id), key=str(missing))

    def write(tx: Session, attempt: int) -> Sequence[Nudge] | None:
        if not span_queries.split_again(tx, work, attempt=attempt):
            return None
        return [SplitRecording(session_id=work.session_id)]

    return runner.Result(write, outcome="sent_back")
