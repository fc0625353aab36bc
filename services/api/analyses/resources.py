"""``/v1/sessions/{session_id}/analysis``: the analysis of a finished session."""

from __future__ import annotations

import uuid

import falcon

from actors.messaging.messages import AnalyzeSession
from actors.observability import tracing
from db.queries import analysis_queries
from db.tables.sessions import UNFINISHED_STATES
from services.api.analyses.errors import NoAnalysis
from services.api.analyses.schemas import Analysis, NewAnalysis
from services.api.common import sessions
from services.api.common.errors import NotFinished
from services.http import idempotency, responses
from services.http.access import owner
from services.http.not_found import NotFound, or_404
from services.http.operations import body_of, operation
from services.http.resource import Resource
from services.http.responses import answer


class SessionAnalysis(Resource):
    """``/v1/sessions/{session_id}/analysis``."""

    @operation(
        scope="sessions:read",
        answer=Analysis,
        also={304: None},
        problems=(NotFound.of("session"), NoAnalysis),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Return the analysis of a session.

        It contains durations and sound energy by noise type, exceedances of limits, and processing
        statistics. It is computed without limits when a session finishes ``completed`` or
        ``partial``.
        """
        with self.deps.store.transaction() as tx:
            row = analysis_queries.get_analysis(tx, session_id, owner=owner(req))
            if row is None:
                session = sessions.get_or_404(tx, session_id, owner=owner(req))
                raise NoAnalysis(f"the session is {session.state}")
            analysis = Analysis.of(row)
        responses.conditional(req, resp, analysis)

    @operation(
        scope="sessions:write",
        body=NewAnalysis,
        answer=Analysis,
        status=202,
        problems=(NotFound.of("session"), NotFinished),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Recompute the analysis of a session, with limits to compare its levels with."""
        asked = body_of(req, NewAnalysis)
        with self.deps.store.transaction() as tx:
            session = sessions.get_or_404(tx, session_id, owner=owner(req))
            if session.state in UNFINISHED_STATES:
                raise NotFinished(f"the session is {session.state}")
            asking_id = idempotency.new_id(req)
            analysis_queries.ask_analysis(
                tx,
                session_id,
                asking_id=asking_id,
                limits_db=asked.limits_db.listed(),
                traceparent=tracing.current(),
            )
            # None if the session was removed in the meantime.
            row = analysis_queries.asked_analysis(tx, asking_id)
            analysis = Analysis.of(or_404(row, "session", session_id))
        self.deps.publisher.send(AnalyzeSession(session_id=session_id))
        _answer(resp, analysis)

    def replay(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> None:
        """Answer with the analysis that an earlier attempt of this request started."""
        with self.deps.store.reading() as tx:
            row = analysis_queries.asked_analysis(tx, made_id, owner=owner(req))
        _answer(resp, Analysis.of(or_404(row, "session", made_id)))


def _answer(resp: falcon.Response, analysis: Analysis) -> None:
    answer(resp, analysis, status=202, location=f"/v1/sessions/{analysis.id}/analysis")
