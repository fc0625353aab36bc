"""The session that a request names."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from db.queries import session_queries
from db.tables.sessions import AudioSession
from services.http.not_found import or_404


def get_or_404(
    tx: Session, session_id: uuid.UUID, *, owner: uuid.UUID | None, is_locked: bool = False
) -> AudioSession:
    """Return the row of a session, locked until the end of the transaction if ``is_locked``; raises
    :class:`NotFound`, also for one of another user.
    """
    get = session_queries.lock_session if is_locked else session_queries.get_session
    return or_404(get(tx, session_id, owner=owner), "session", session_id)
