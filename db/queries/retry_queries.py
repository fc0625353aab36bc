"""Retry sessions that were given up, or that failed for another reason."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, null, select, true, update
from sqlalchemy.orm import Session

from db.queries import session_queries
from db.queue import session_moves
from db.tables.metrics import ProcessingMetric
from db.tables.session_results import SessionResult
from db.tables.sessions import KEEP, AudioSession
from db.tables.spans import SessionSpan
from db.tables.unfinished import SessionLeftovers

#: The codes of sessions that may be retried: those that were given up, and those without a single
#: analysed span.
RETRIABLE = ("given-up", "nothing-heard")
#: The numbers of first claims wrap around here: well below the limit of a small integer, and high
#: enough for every retry of a session.
CLAIM_NUMBERS = 16_000


@dataclass(frozen=True, kw_only=True)
class FailedSessions:
    """Which failed sessions to retry. Their audio must still be there."""

    owner: uuid.UUID | None = None
    #: Also those that failed for good, such as an undecodable recording.
    all_codes: bool = False
    #: Only those with this code.
    code: str | None = None
    batch_id: uuid.UUID | None = None
    finished_from: datetime | None = None
    finished_to: datetime | None = None

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of their rows."""
        of_code = AudioSession.problem["code"].astext
        ended = SessionResult.finished_at
        failed_then = select(SessionResult.session_id).where(
            SessionResult.outcome == "failed",
            true() if self.finished_from is None else ended >= self.finished_from,
            true() if self.finished_to is None else ended < self.finished_to,
        )
        return (
            session_queries.is_of(AudioSession, self.owner),
            # The audio of other sessions has been removed.
            AudioSession.privacy == KEEP,
            AudioSession.state == "failed",
            AudioSession.id.in_(failed_then),
            true() if self.all_codes else of_code.in_(RETRIABLE),
            true() if self.code is None else of_code == self.code,
            true() if self.batch_id is None else AudioSession.batch_id == self.batch_id,
        )


def count(tx: Session, which: FailedSessions) -> int:
    """Count the sessions that :func:`retry_sessions` would restart."""
    rows = select(func.count()).select_from(AudioSession).where(*which.conditions())
    return tx.execute(rows).scalar_one()


def retry_sessions(tx: Session, which: FailedSessions, *, limit: int) -> Sequence[uuid.UUID]:
    """Restart failed sessions, those that ended first first; return the IDs of at most ``limit``.

    Sessions that another call restarts at the same time are left to it.
    """
    chosen = (
        select(AudioSession.id)
        .join(AudioSession.result)
        .where(*which.conditions())
        .order_by(SessionResult.finished_at)
        .limit(limit)
        .with_for_update(of=AudioSession, skip_locked=True)
    )
    return _restart(tx, AudioSession.id.in_(chosen))


def retry_session(tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None = None) -> bool:
    """Restart a session that was given up; False if it cannot be retried."""
    which = FailedSessions(owner=owner).conditions()
    return bool(_restart(tx, AudioSession.id == session_id, *which))


def _restart(tx: Session, *conditions: ColumnElement[bool]) -> Sequence[uuid.UUID]:
    """Restart sessions, and return their IDs.

    Their claims continue from a number that no earlier claim has had, as far as there are metrics
    of these. So a worker that was considered dead can neither write results for them nor remove new
    blobs.
    """
    used = (
        select(func.coalesce(func.max(ProcessingMetric.attempt), 0) + 1)
        .where(
            ProcessingMetric.session_id == AudioSession.id, ProcessingMetric.span_index.is_(None)
        )
        .correlate(AudioSession)
        .scalar_subquery()
    )
    claimed = func.mod(used, CLAIM_NUMBERS)
    fresh = {
        "state": "queued",
        "started_at": None,
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
        .where(*conditions)
        .values(**fresh)
        .returning(*session_moves.QUEUED, claimed.label("claimed"))
        .cte()
    )
    first = restarted.c.claimed
    ids = session_moves.queue(tx, restarted, first_claim=first, attempt=first, uncounted=first)
    if ids:
        for table in (SessionSpan, SessionLeftovers):
            tx.execute(delete(table).where(table.session_id.in_(ids)))
        tx.execute(
            update(SessionResult)
            .where(SessionResult.session_id.in_(ids))
            .values(outcome=None, finished_at=None),
            execution_options={"synchronize_session": False},
        )
    return ids
