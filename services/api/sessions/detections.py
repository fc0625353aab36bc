"""Detections of one session, and of all sessions."""

from __future__ import annotations

import uuid

import falcon

from actors.facts.noise_types import with_below
from db.queries import list_queries
from db.store import Store
from services.api.sessions import list_schemas, schemas
from services.api.sessions.list_schemas import AllDetectionsQuery, DetectionQuery, FoundDetection
from services.api.sessions.resources import found
from services.http import cursors
from services.http.access import owner
from services.http.not_found import NotFound
from services.http.operations import operation, query_of
from services.http.responses import answer


class SessionDetections:
    """``GET /v1/sessions/{session_id}/detections``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(
        scope="sessions:read",
        query=DetectionQuery,
        answer=schemas.DetectionPage,
        problems=(NotFound.of("session"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: uuid.UUID) -> None:
        """List the detections of a session, by start time by default. The list is empty until the
        session has finished.
        """
        asked = query_of(req, DetectionQuery)
        order = list_queries.DETECTIONS[asked.sort]
        after = cursors.after(req, asked, order)
        with self._store.reading() as db:
            page = list_queries.detections(
                db, session_id, order=order, after=after, limit=asked.limit,
                noise_types=with_below(asked.noise_type), min_confidence=asked.min_confidence,
                from_s=asked.from_s, to_s=asked.to_s,
            )  # fmt: skip
            # Read the session after its detections: their calibration is known by then.
            session = found(db, session_id, owner=owner(req))
        answer(
            resp,
            schemas.DetectionPage(
                items=[schemas.Detection.of(row[0]) for row in page.rows],
                level_reference=session.level_reference,
                next_cursor=cursors.following(req, resp, asked, page.next),
            ),
        )


class DetectionList:
    """``GET /v1/detections``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @operation(
        scope="sessions:read", query=AllDetectionsQuery, answer=list_schemas.FoundDetectionPage
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List the detections of all sessions: newest session first, last detection first."""
        asked = query_of(req, AllDetectionsQuery)
        after = cursors.after(req, asked, list_queries.ALL_DETECTIONS)
        with self._store.reading() as db:
            page = list_queries.all_detections(
                db, owner=owner(req), after=after, limit=asked.limit,
                noise_types=with_below(asked.noise_type), min_confidence=asked.min_confidence,
                created=asked.created,
            )  # fmt: skip
        items = [FoundDetection.found(row) for row in page.rows]
        cursor = cursors.following(req, resp, asked, page.next)
        answer(resp, list_schemas.FoundDetectionPage(items=items, next_cursor=cursor))
