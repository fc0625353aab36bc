"""Detections of one session, and of all sessions."""

from __future__ import annotations

import uuid

import falcon
from sqlalchemy.orm import Session

from actors.facts.noise_types import with_below
from db.queries import detection_queries, list_queries
from db.queries.detection_queries import UnknownTimeZone
from services.api.common import sessions
from services.api.sessions import schemas
from services.api.sessions.detection_schemas import (
    AllDetectionsQuery,
    DetectionQuery,
    DetectionSummary,
    FoundDetection,
    FoundDetectionPage,
    SummaryQuery,
)
from services.http import responses
from services.http.access import owner
from services.http.errors import FieldError
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound, or_404
from services.http.operations import operation, query_of
from services.http.request_errors import InvalidParameter
from services.http.resource import Resource


class SessionDetections(Resource):
    """``GET /v1/sessions/{session_id}/detections``."""

    @listing(
        scope="sessions:read",
        query=DetectionQuery,
        answer_type=schemas.DetectionPage,
        orders=list_queries.DETECTIONS,
        problems=(NotFound.of("session"),),
    )
    def on_get(
        self,
        tx: Session,
        asked: DetectionQuery,
        part: Part,
        owner: uuid.UUID | None,
        session_id: uuid.UUID,
    ) -> Listed:
        """List the detections of a session, by start time by default. The list is empty until the
        session has finished.
        """
        page = list_queries.detections(
            tx,
            session_id,
            noise_types=with_below(asked.noise_type),
            min_confidence=asked.min_confidence,
            from_s=asked.from_s,
            to_s=asked.to_s,
            third_octaves=asked.include is not None,
            **part,
        )
        # Read the session after its detections: their calibration is known by then.
        session = sessions.get_or_404(tx, session_id, owner=owner)
        return Listed(
            page,
            schemas.Detection.of,
            level_reference=session.level_reference,
        )


class DetectionList(Resource):
    """``GET /v1/detections``."""

    @listing(
        scope="sessions:read",
        query=AllDetectionsQuery,
        answer_type=FoundDetectionPage,
        orders=detection_queries.ORDERS,
    )
    def on_get(
        self, tx: Session, asked: AllDetectionsQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List the detections of all sessions: by default the newest session first, and of each
        the last detection first.
        """
        with_bands = asked.include is not None
        page = detection_queries.detections(tx, asked.of(owner), third_octaves=with_bands, **part)
        return Listed(page, lambda row: FoundDetection.found(row, third_octaves=with_bands))


class DetectionItem(Resource):
    """``GET /v1/detections/{detection_id}``."""

    @operation(
        scope="sessions:read",
        answer=FoundDetection,
        also={304: None},
        problems=(NotFound.of("detection"),),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, detection_id: uuid.UUID) -> None:
        """Return a detection."""
        with self.deps.store.reading() as tx:
            row = detection_queries.get_detection(tx, detection_id, owner=owner(req))
        found = FoundDetection.found(or_404(row, "detection", detection_id), third_octaves=True)
        responses.conditional(req, resp, found)


class DetectionSums(Resource):
    """``GET /v1/detections/summary``."""

    @operation(scope="sessions:read", query=SummaryQuery, answer=DetectionSummary, also={304: None})
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Sum up the detections of an interval by hour, by day or by type."""
        asked = query_of(req, SummaryQuery)
        try:
            with self.deps.store.transaction() as tx:
                rows = detection_queries.sums(
                    tx, asked.of(owner(req)), by=asked.by, time_zone=asked.time_zone
                )
        except UnknownTimeZone:
            raise InvalidParameter.of(
                [FieldError(field="time_zone", detail="is unknown to the database")]
            ) from None
        responses.conditional(req, resp, DetectionSummary.of(asked, rows))
