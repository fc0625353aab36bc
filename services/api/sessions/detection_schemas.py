"""Queries and answers of detections; see also `schemas` beside this module."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from actors.facts import rounding
from actors.facts.noise_types import with_below
from db import typed
from db.queries.detection_queries import DetectionFilter, DetectionSum
from db.tables.sessions import level_reference
from services.api.common.parameters import Confidence, Few, Time, is_zone
from services.api.sessions import schemas
from services.api.sessions.list_schemas import MetadataText, metadata_entries
from services.http.cursors import PageQuery
from services.http.errors import FieldError
from services.http.request_errors import InvalidParameter

#: The fields of detections that are only returned on request.
Included = Literal["third_octaves"]
#: The longest interval of a summary, so that its answer and its query stay small.
MOST_SUMMED = timedelta(days=366)


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


class DetectionFilters(msgspec.Struct, kw_only=True):
    """Filters of detections of all sessions; all must match."""

    #: Only this noise type or group, with all types below it; repeat the parameter for several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only detections with at least this confidence.
    min_confidence: Confidence | None = None
    #: Only detections with at least this LAeq, in dB re the reference of their session.
    min_laeq_db: float | None = None
    #: Only detections that begin at this time or later. Those of a recording without a recording
    #: time have no time.
    heard_from: Time | None = None
    #: Only detections that begin before this time.
    heard_to: Time | None = None
    #: Only detections of this session; repeat the parameter for several.
    session_id: Annotated[tuple[uuid.UUID, ...], Few] = ()
    #: Only sessions whose metadata contain all of these entries: a flat JSON object.
    metadata: MetadataText | None = None
    #: Only sessions created at this time or later.
    created_from: Time | None = None
    #: Only sessions created before this time.
    created_to: Time | None = None

    def __post_init__(self) -> None:
        """Check what can be checked from the parameters alone."""
        metadata_entries(self.metadata)

    def of(self, owner: uuid.UUID | None) -> DetectionFilter:
        """Return these filters for the detections of a user, or of all users."""
        return DetectionFilter(
            owner=owner,
            noise_types=with_below(self.noise_type),
            min_confidence=self.min_confidence,
            min_laeq_db=self.min_laeq_db,
            heard=(self.heard_from, self.heard_to),
            created=(self.created_from, self.created_to),
            session_ids=self.session_id,
            metadata=metadata_entries(self.metadata),
        )


class AllDetectionsQuery(DetectionFilters, kw_only=True):
    """Filters and order of the list of all detections."""

    #: Maximum number of items per page.
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100
    #: The ``next_cursor`` of the previous page; omit it for the first page.
    cursor: str | None = None
    #: The order: ``-created_at`` is the newest session first, and of each the last detection first;
    #: ``heard_at`` and ``-heard_at`` sort by time, and those without a time come last.
    sort: Literal["-created_at", "heard_at", "-heard_at"] = "-created_at"
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
            candidates=typed.convert(event.candidates, list[schemas.Candidate]),
            third_octaves=schemas.bands_of(event) if third_octaves else None,
            session_id=event.session_id,
            file_name=row.file_name,
            level_reference=level_reference(row.calibration_db),
        )


class FoundDetectionPage(msgspec.Struct, kw_only=True):
    """A page of detections."""

    items: list[FoundDetection]
    next_cursor: str | None


class SummaryQuery(DetectionFilters, kw_only=True):
    """The interval, the parts and the filters of a summary of detections."""

    #: What to sum up by: the hour or the day in which a detection begins, or its type.
    by: Literal["hour", "day", "type"]
    #: Only detections that begin at this time or later.
    heard_from: Time
    #: Only detections that begin before this time, at most 366 days after ``heard_from``.
    heard_to: Time
    #: The time zone of hours and days: an IANA name, such as ``Europe/Berlin``.
    time_zone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"

    def __post_init__(self) -> None:
        """Check what can be checked from the parameters alone."""
        super().__post_init__()
        if not is_zone(self.time_zone):
            raise _refused("time_zone", "must be an IANA name, such as Europe/Berlin")
        if not timedelta() < self.heard_to - self.heard_from <= MOST_SUMMED:
            raise _refused(
                "heard_to", f"must be after 'heard_from', by at most {MOST_SUMMED.days} days"
            )


class SummedLevels(msgspec.Struct, kw_only=True):
    """The levels of the detections that have one reference."""

    #: ``dB SPL`` or ``dBFS``.
    level_reference: str
    #: Energy mean over the duration of the detections; null for digital silence.
    laeq_db: float | None
    #: The greatest LAFmax; null for digital silence.
    lafmax_db: float | None


class SummedDetections(msgspec.Struct, kw_only=True):
    """The detections of one hour, day or type."""

    #: When the hour or the day begins, in the requested time zone; null for a type.
    begins_at: datetime | None
    #: The noise type; null for an hour or a day.
    noise_type: str | None
    events: int
    #: Their total duration. Detections that overlap count each.
    total_s: float
    #: The levels, for each reference that occurs: those of recordings with and without a
    #: calibration cannot be compared.
    levels: list[SummedLevels]


class DetectionSummary(msgspec.Struct, kw_only=True):
    """Detections, summed up by hour, day or type."""

    by: str
    time_zone: str
    heard_from: datetime
    heard_to: datetime
    #: Hours or days with detections, in order, or types, most detections first.
    items: list[SummedDetections]

    @classmethod
    def of(cls, asked: SummaryQuery, rows: Iterable[DetectionSum]) -> DetectionSummary:
        """Convert rows, in order, to a summary."""
        zone = ZoneInfo(asked.time_zone)
        items = [
            _summed(key, list(group), zone=zone)
            for key, group in groupby(rows, operator.attrgetter("key"))
        ]
        if asked.by == "type":
            items.sort(key=lambda item: -item.events)
        return cls(
            by=asked.by,
            time_zone=asked.time_zone,
            heard_from=asked.heard_from,
            heard_to=asked.heard_to,
            items=items,
        )


def _summed(key: datetime | str, rows: list[DetectionSum], *, zone: ZoneInfo) -> SummedDetections:
    return SummedDetections(
        begins_at=key.astimezone(zone) if isinstance(key, datetime) else None,
        noise_type=key if isinstance(key, str) else None,
        events=sum(row.events for row in rows),
        total_s=rounding.seconds(sum(row.total_s for row in rows)),
        levels=[
            SummedLevels(
                level_reference="dB SPL" if row.is_calibrated else "dBFS",
                laeq_db=rounding.level(row.laeq_db),
                lafmax_db=rounding.level(row.lafmax_db),
            )
            for row in rows
        ],
    )


def _refused(field: str, detail: str) -> InvalidParameter:
    return InvalidParameter.of([FieldError(field=field, detail=detail)])
