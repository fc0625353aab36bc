"""Queries and pages of lists; see also `schemas` beside this module."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from services.api.common.parameters import Confidence, CreatedPage, Few, Time
from services.api.sessions import schemas
from services.api.sessions.options import Metadata, read_metadata
from services.http.errors import FieldError
from services.http.request_errors import InvalidParameter

SessionState = Literal[
    "queued", "splitting", "detecting", "aggregating", "completed", "partial", "failed", "cancelled"
]


#: A flat JSON object, as text.
MetadataText = Annotated[
    str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})
]


def metadata_entries(text: str | None) -> Metadata:
    """Return the entries that metadata must contain; raises :class:`InvalidParameter`."""
    try:
        return {} if text is None else read_metadata(text)
    except ValueError as error:
        raise InvalidParameter.of([FieldError(field="metadata", detail=str(error))]) from None


class SessionQuery(CreatedPage, kw_only=True):
    """Filters and order of the list of sessions.

    ``noise_type`` and ``min_confidence`` select the sessions with a matching detection.
    """

    #: Only this noise type or group, with all types below it; repeat the parameter for several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only detections with at least this confidence.
    min_confidence: Confidence | None = None
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
    metadata: MetadataText | None = None
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
        self.own_metadata()

    @property
    def recorded(self) -> tuple[datetime | None, datetime | None]:
        """The range of recording times."""
        return self.recorded_from, self.recorded_to

    def own_metadata(self) -> Metadata:
        """Return the entries that the metadata must contain."""
        return metadata_entries(self.metadata)


class SessionPage(msgspec.Struct, kw_only=True):
    """A page of sessions."""

    items: list[schemas.Session]
    next_cursor: str | None
