"""Process failed sessions again: one by its ID, or many by what they have in common."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

import falcon
import msgspec

from actors.messaging.messages import ProcessAudioFile
from db.queries import retry_queries
from db.queries.retry_queries import FailedSessions
from db.tables.sessions import KEEP
from services.api.common.parameters import Time
from services.api.sessions import resources as sessions
from services.api.sessions import schemas
from services.api.sessions.errors import NotGivenUp
from services.http.access import ADMIN, owner, principal
from services.http.caller_errors import MissingScope
from services.http.not_found import NotFound
from services.http.operations import body_of, operation
from services.http.resource import Resource
from services.http.responses import answer

#: Sessions that one request restarts at most, in one transaction.
MOST_RETRIED = 500


class NewRetries(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Which failed sessions to retry. All conditions must hold."""

    #: ``given-up``: those that were given up, such as after an outage. ``failed``: also those that
    #: failed for good, such as an undecodable recording; for administrators.
    which: Literal["given-up", "failed"]
    #: Only sessions with this problem code.
    code: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    #: Only sessions of this batch.
    batch_id: uuid.UUID | None = None
    #: Only sessions that ended at this time or later.
    finished_from: Time | None = None
    #: Only sessions that ended before this time.
    finished_to: Time | None = None
    #: Whether to only count the sessions.
    dry_run: bool = False


class Retries(msgspec.Struct, kw_only=True):
    """What a request to retry sessions did."""

    #: Sessions that are processed again; at most 500.
    retried: int
    #: Sessions that match and are not. Repeat the request to retry them.
    left: int


class SessionRetries(Resource):
    """``POST /v1/sessions/retry``."""

    @operation(scope="sessions:write", body=NewRetries, answer=Retries)
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Retry failed sessions, at most 500 with each request, those that ended first first. With
        ``dry_run``, count them. Sessions with ``privacy`` have no recording to start from, and are
        not among them. An administrator's key retries the sessions of all users.
        """
        asked = body_of(req, NewRetries)
        if asked.which == "failed" and not principal(req).is_admin:
            raise MissingScope(f"retrying all that failed requires a key with the scope {ADMIN}")
        which = FailedSessions(
            owner=owner(req),
            all_codes=asked.which == "failed",
            code=asked.code,
            batch_id=asked.batch_id,
            finished_from=asked.finished_from,
            finished_to=asked.finished_to,
        )
        with self.deps.store.transaction() as tx:
            limit = 0 if asked.dry_run else MOST_RETRIED
            retried = retry_queries.retry_sessions(tx, which, limit=limit)
            left = retry_queries.count(tx, which)
        self.deps.publisher.send(*(ProcessAudioFile(session_id=each) for each in retried))
        answer(resp, Retries(retried=len(retried), left=left))


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
