"""The session that a request names."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from db.queries import session_queries
from db.tables.sessions import AudioSession
from services.http.not_found import or_404


def get_or_404(tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None) -> AudioSession:
    """Return the row of a session; raises :class:`NotFound`, also for one of another user."""
    return or_404(session_queries.get_session(tx, session_id, owner=owner), "session", session_id)
