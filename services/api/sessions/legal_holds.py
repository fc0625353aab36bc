"""``/v1/sessions/{session_id}/hold``: the legal hold of a session."""

from __future__ import annotations

import uuid

import falcon
import msgspec

from db.queries import retention_queries
from services.http.access import ADMIN, owner
from services.http.not_found import NotFound, or_404
from services.http.operations import operation
from services.http.resource import Resource
from services.http.responses import answer


class Hold(msgspec.Struct, kw_only=True):
    """Whether a session is under legal hold, which exempts it from removal by age."""

    session_id: uuid.UUID
    legal_hold: bool


class SessionHold(Resource):
    """``PUT`` and ``DELETE /v1/sessions/{session_id}/hold``."""

    @operation(scope=ADMIN, answer=Hold, problems=(NotFound.of("session"),))
    def on_put(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Place a legal hold. The session, its recording and its detections are kept until the hold
        is lifted.
        """
        self._set(req, resp, session_id, held=True)

    @operation(scope=ADMIN, answer=Hold, problems=(NotFound.of("session"),))
    def on_delete(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Lift a legal hold. Retention applies to the session again."""
        self._set(req, resp, session_id, held=False)

    def _set(
        self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID, *, held: bool
    ) -> None:
        with self.deps.store.transaction() as tx:
            known = retention_queries.hold_session(tx, session_id, held=held, owner=owner(req))
            or_404(known, "session", session_id)
        answer(resp, Hold(session_id=session_id, legal_hold=held))
