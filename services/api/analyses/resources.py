"""``/v1/sessions/{session_id}/analysis``: the analysis of a finished session."""

from __future__ import annotations

import uuid

import falcon

from actors.messaging.broker import Publisher
from actors.messaging.messages import AnalyzeSession
from actors.observability import tracing
from db.queries import analysis_queries
from db.store import Store
from db.tables.sessions import UNFINISHED_STATES
from services.api.analyses.errors import NoAnalysis
from services.api.analyses.schemas import Analysis, NewAnalysis
from services.api.sessions.errors import NotFinished
from services.api.sessions.resources import found
from services.http import idempotency, responses
from services.http.access import owner
from services.http.not_found import NotFound
from services.http.operations import body_of, operation
from services.http.request_errors import InvalidBody
from services.http.responses import answer


class SessionAnalysis:
    """``/v1/sessions/{session_id}/analysis``."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

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
        with self._store.transaction() as db:
            row = analysis_queries.get_analysis(db, session_id, owner=owner(req))
            if row is None:
                session = found(db, session_id, owner=owner(req))
                raise NoAnalysis(f"the session is {session.state}")
            analysis = Analysis.of(row)
        responses.conditional(req, resp, analysis)

    on_head = on_get

    @operation(
        scope="sessions:write",
        body=NewAnalysis,
        answer=Analysis,
        status=202,
        problems=(NotFound.of("session"), NotFinished, InvalidBody),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """Recompute the analysis of a session, with limits to compare its levels with."""
        asked = body_of(req, NewAnalysis)
        with self._store.transaction() as db:
            session = found(db, session_id, owner=owner(req))
            if session.state in UNFINISHED_STATES:
                raise NotFinished(f"the session is {session.state}")
            row = analysis_queries.ask_analysis(
                db, session_id, asking_id=idempotency.new_id(req),
                limits_db=asked.limits_db.listed(), traceparent=tracing.current(),
            )  # fmt: skip
            if row is None:
                raise NotFound.of("session")(f"no session has the ID {session_id}")
            analysis = Analysis.of(row)
        self._publisher.send(AnalyzeSession(session_id=session_id))
        _answer(resp, analysis)

    def made(self, req: falcon.Request, resp: falcon.Response, made_id: uuid.UUID) -> bool:
        """Answer with the analysis that an earlier attempt of this request started."""
        with self._store.reading() as db:
            row = analysis_queries.asked_analysis(db, made_id, owner=owner(req))
        if row is not None:
            _answer(resp, Analysis.of(row))
        return row is not None


def _answer(resp: falcon.Response, analysis: Analysis) -> None:
    resp.location = f"/v1/sessions/{analysis.id}/analysis"
    answer(resp, analysis, status=202)
