"""Retry sessions that were given up."""

from __future__ import annotations

import uuid

from sqlalchemy import delete, func, null, select, update
from sqlalchemy.orm import Session

from db.queries import session_queries
from db.queue import session_moves
from db.tables.metrics import ProcessingMetric
from db.tables.sessions import KEEP, AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import SessionLeftovers

#: The codes of sessions that may be retried: those that were given up, and those without a single
#: analysed span.
RETRIABLE = ("given-up", "nothing-heard")
#: The numbers of first claims wrap around here: well below the limit of a small integer, and high
#: enough for every retry of a session.
CLAIM_NUMBERS = 16_000


def retry_session(tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> bool:
    """Restart a session that was given up; False if it cannot be retried.

    Its claims continue from a number that no earlier claim has had, as far as there are metrics of
    these. So a worker that was considered dead can neither write results for it nor remove new
    blobs.
    """
    used = (
        select(func.coalesce(func.max(ProcessingMetric.attempt), 0) + 1)
        .where(ProcessingMetric.session_id == session_id, ProcessingMetric.span_index.is_(None))
        .scalar_subquery()
    )
    claimed = func.mod(used, CLAIM_NUMBERS)
    fresh = {
        "state": "queued",
        "started_at": None,
        "finished_at": None,
        "pcm_key": None,
        "levels_key": None,
        "bands_key": None,
        "spectrogram_key": None,
        "levels_answer_key": None,
        "spans_total": 0,
        "spans_finished": 0,
        "totals": null(),
        "summary": null(),
        "problem": null(),
    }
    restarted = (
        update(AudioSession)
        .where(
            AudioSession.id == session_id,
            session_queries.is_of(AudioSession, owner),
            # The audio of other sessions has been removed.
            AudioSession.privacy == KEEP,
            AudioSession.state == "failed",
            AudioSession.problem["code"].astext.in_(RETRIABLE),
        )
        .values(**fresh)
        .returning(*session_moves.QUEUED, claimed.label("claimed"))
        .cte()
    )
    first = restarted.c.claimed
    if not session_moves.queue(tx, restarted, first_claim=first, attempt=first, uncounted=first):
        return False
    for table in (SessionSpan, SessionLeftovers):
        tx.execute(delete(table).where(table.session_id == session_id))
    return True
