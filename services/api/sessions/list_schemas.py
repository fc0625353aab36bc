"""Queries and pages of lists; see also `schemas` beside this module."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from db.tables.sessions import level_reference
from services.api.common.parameters import Confidence, CreatedPage, Few, Time
from services.api.sessions import schemas
from services.api.sessions.options import Metadata, read_metadata
from services.http.cursors import PageQuery
from services.http.errors import FieldError
from services.http.request_errors import InvalidParameter

SessionState = Literal[
    "queued", "splitting", "detecting", "aggregating", "completed", "partial", "failed", "cancelled"
]
#: The fields of detections that are only returned on request.
Included = Literal["third_octaves"]


class HeardPage(CreatedPage, kw_only=True):
    """A query that filters by detections."""

    #: Only this noise type or group, with all types below it; repeat the parameter for several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only detections with at least this confidence.
    min_confidence: Confidence | None = None


class SessionQuery(HeardPage, kw_only=True):
    """Filters and order of the list of sessions.

    ``noise_type`` and ``min_confidence`` select the sessions with a matching detection.
    """

    #: Only this state; repeat the parameter for several.
    state: Annotated[tuple[SessionState, ...], Few] = ()
    #: Only sessions of this batch.
    batch_id: uuid.UUID | None = None
    #: Only sessions with exactly this file name.
    file_name: str | None = None
    #: Only sessions recorded at this time or later.
    recorded_from: Time | None = None
    #: Only sessions recorded before this time.
    recorded_to: Time | None = None
    #: Only sessions whose metadata contain all of these entries: a flat JSON object.
    metadata: (
        Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
        | None
    ) = None
    #: The field to sort by; ``-`` sorts descending. Null values come last.
    sort: Literal[
        "created_at",
        "-created_at",
        "recorded_at",
        "-recorded_at",
        "duration_s",
        "-duration_s",
        "finished_at",
        "-finished_at",
    ] = "-created_at"

    def __post_init__(self) -> None:
        """Check what can be checked from the parameters alone."""
        try:
            self.own_metadata()
        except ValueError as error:
            raise InvalidParameter.of([FieldError(field="metadata", detail=str(error))]) from None

    @property
    def recorded(self) -> tuple[datetime | None, datetime | None]:
        """The range of recording times."""
        return self.recorded_from, self.recorded_to

    def own_metadata(self) -> Metadata:
        """Return the entries that the metadata must contain."""
        return {} if self.metadata is None else read_metadata(self.metadata)


class SessionPage(msgspec.Struct, kw_only=True):
    """A page of sessions."""

    items: list[schemas.Session]
    next_cursor: str | None


class DetectionQuery(PageQuery, kw_only=True):
    """Filters and order of the list of a session's detections."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    #: Only this noise type or group, with all types below it; repeat the parameter for several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only detections with at least this confidence.
    min_confidence: Confidence | None = None
    #: Only detections that end after this second of the recording.
    from_s: float | None = None
    #: Only detections that start before this second of the recording.
    to_s: float | None = None
    #: The field to sort by; ``-`` sorts descending. Null values come last.
    sort: Literal[
        "start_s",
        "-start_s",
        "confidence",
        "-confidence",
        "laeq_db",
        "-laeq_db",
        "lafmax_db",
        "-lafmax_db",
        "lae_db",
        "-lae_db",
        "emergence_db",
        "-emergence_db",
    ] = "start_s"
    #: Also return the ``third_octaves`` of each detection.
    include: Included | None = None


class AllDetectionsQuery(HeardPage, kw_only=True):
    """Filters of the list of all detections; creation times are those of their sessions."""

    #: Also return the ``third_octaves`` of each detection.
    include: Included | None = None


class FoundDetection(schemas.Detection, kw_only=True):
    """A detection with its session."""

    session_id: uuid.UUID
    file_name: str
    level_reference: str

    @classmethod
    def found(cls, row: Any, *, third_octaves: bool = False) -> FoundDetection:
        """Convert a row to a detection with the file name and level reference of its session, and
        with third octaves if the row was read with them.
        """
        event = row[0]
        return cls(
            **{
                name: getattr(event, name)
                for name in schemas.Detection.__struct_fields__
                if name not in ("candidates", "third_octaves")
            },
            candidates=msgspec.convert(event.candidates, list[schemas.Candidate]),
            third_octaves=schemas.bands_of(event) if third_octaves else None,
            session_id=event.session_id,
            file_name=row.file_name,
            level_reference=level_reference(row.calibration_db),
        )


class FoundDetectionPage(msgspec.Struct, kw_only=True):
    """A page of detections: newest session first, last detection first."""

    items: list[FoundDetection]
    next_cursor: str | None
