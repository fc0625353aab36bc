"""``POST /v1/sessions/{session_id}/retry``: process an abandoned session again."""

from __future__ import annotations

import uuid

import falcon

from actors.messaging.messages import ProcessAudioFile
from db.queries import retry_queries
from db.tables.sessions import KEEP
from services.api.sessions import resources as sessions
from services.api.sessions import schemas
from services.api.sessions.errors import NotGivenUp
from services.http.access import owner
from services.http.not_found import NotFound
from services.http.operations import operation
from services.http.resource import Resource
from services.http.responses import answer


class SessionRetry(Resource):
    """``POST /v1/sessions/{session_id}/retry``."""

    @operation(
        scope="sessions:write",
        answer=schemas.Session,
        problems=(NotFound.of("session"), NotGivenUp),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Retry a session that was given up. Repeating the call during processing changes nothing.

        Processing starts again from the stored recording, with the same options and model. The
        audio does not count towards the quota a second time. Webhooks are notified of the new end
        as well.
        """
        with self.deps.store.transaction() as tx:
            retried = retry_queries.retry_session(tx, session_id, owner=owner(req))
        session = sessions.fetch_view(self.deps.store, session_id, owner=owner(req))
        if not retried and session.finished:
            if session.privacy != KEEP:
                raise NotGivenUp(
                    f"with privacy={session.privacy}, the recording was removed when the session"
                    " ended: post it again as a new session"
                )
            reason = session.problem and session.problem.code
            raise NotGivenUp(f"the session is {session.state}" + (f" ({reason})" if reason else ""))
        if retried:
            self.deps.publisher.send(ProcessAudioFile(session_id=session_id))
        answer(resp, session)
