"""Sessions that were given up, brought back to work."""

from __future__ import annotations

import uuid

from sqlalchemy import delete, func, null, select, update
from sqlalchemy.orm import Session

from db.queries import session_queries
from db.queue import claims
from db.tables.sessions import KEEP, AudioSession, ProcessingMetric, SessionSpan

#: The codes of sessions that may be retried: those that were given up, and those of which no span
#: was heard.
RETRIABLE = ("given-up", "nothing-heard")
#: Numbers of claims begin again here; far from the bound of a small integer, and far enough for
#: every retry of a session.
CLAIM_NUMBERS = 16_000


def retry_session(db: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> bool:
    """Have a session that was given up processed again from its start; False if it was not.

    Its claims go on from a number that no claim of before has had. So a worker that was thought
    dead can neither write for it nor remove what is written now.
    """
    used = (
        select(func.coalesce(func.max(ProcessingMetric.attempt), 0) + 1)
        .where(ProcessingMetric.session_id == session_id, ProcessingMetric.span_index.is_(None))
        .scalar_subquery()
    )
    claimed = func.mod(used, CLAIM_NUMBERS)
    fresh = {
        "state": "queued", **claims.at_move(AudioSession),
        "attempt": claimed, "uncounted": claimed, "first_claim": claimed,
        "started_at": None, "finished_at": None, "tidied_at": None,
        "pcm_key": None, "levels_key": None, "spectrogram_key": None, "levels_answer_key": None,
        "spans_total": 0, "spans_finished": 0, "totals": null(), "summary": null(),
        "problem": null(),
    }  # fmt: skip
    retried = claims.changed(
        db.execute(
            update(AudioSession)
            .where(
                AudioSession.id == session_id,
                session_queries.is_of(AudioSession, owner),
                # Of any other the audio is removed.
                AudioSession.privacy == KEEP,
                AudioSession.state == "failed",
                AudioSession.problem["code"].astext.in_(RETRIABLE),
            )
            .values(**fresh),
            execution_options={"synchronize_session": False},
        )
    )
    if retried:
        db.execute(delete(SessionSpan).where(SessionSpan.session_id == session_id))
    return retried
