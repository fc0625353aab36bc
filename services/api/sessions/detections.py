"""Detections of one session, and of all sessions."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from actors.facts.noise_types import with_below
from db.queries import list_queries
from services.api.common import sessions
from services.api.sessions import list_schemas, schemas
from services.api.sessions.list_schemas import AllDetectionsQuery, DetectionQuery, FoundDetection
from services.http.lists import Listed, Part, listing
from services.http.not_found import NotFound
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
            lambda row: schemas.Detection.of(row[0], third_octaves=asked.include is not None),
            level_reference=session.level_reference,
        )


class DetectionList(Resource):
    """``GET /v1/detections``."""

    @listing(
        scope="sessions:read",
        query=AllDetectionsQuery,
        answer_type=list_schemas.FoundDetectionPage,
        orders=list_queries.ALL_DETECTIONS,
    )
    def on_get(
        self, tx: Session, asked: AllDetectionsQuery, part: Part, owner: uuid.UUID | None
    ) -> Listed:
        """List the detections of all sessions: newest session first, last detection first."""
        page = list_queries.all_detections(
            tx,
            owner=owner,
            **part,
            noise_types=with_below(asked.noise_type),
            min_confidence=asked.min_confidence,
            created=asked.created,
            third_octaves=asked.include is not None,
        )
        return Listed(
            page, lambda row: FoundDetection.found(row, third_octaves=asked.include is not None)
        )
