"""What lists are asked with, and what their pages look like; see `schemas` beside this module."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from db.tables.sessions import PRIORITIES, level_reference
from db.tables.training import TrainingJob, Validation
from services.api.sessions import schemas
from services.api.sessions.options import Metadata, read_metadata
from services.http.cursors import Page
from services.http.errors import FieldError, InvalidParameter

Confidence = Annotated[float, msgspec.Meta(ge=0, le=1)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
SessionState = Literal[
    "queued", "splitting", "detecting", "aggregating", "completed", "partial", "failed", "cancelled"
]
BatchState = Literal[
    "receiving", "listing", "expanding", "processing", "finished", "failed", "cancelled"
]
ItemState = SessionState | Literal["waiting", "refused", "not_taken", "removed"]
JobState = Literal["pending", "completed", "failed"]
ByTime = Literal["created_at", "-created_at"]
#: More of one parameter is no question, but a burden.
Few = msgspec.Meta(max_length=50)


class CreatedPage(Page, kw_only=True):
    """A page of what was created in a span of time."""

    #: Only what was created at this time or later.
    created_from: Time | None = None
    #: Only what was created before this time.
    created_to: Time | None = None

    @property
    def created(self) -> tuple[datetime | None, datetime | None]:
        """The span."""
        return self.created_from, self.created_to


class HeardPage(CreatedPage, kw_only=True):
    """A page of what was heard, or in what it was."""

    #: Only this noise type or group and all types below it; several times for any of several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only events that are at least as sure.
    min_confidence: Confidence | None = None


class SessionQuery(HeardPage, kw_only=True):
    """Which sessions are listed, and in which order.

    With ``noise_type`` or ``min_confidence`` those in which there is an event like that.
    """

    #: Only in this state; several times for any of several.
    state: Annotated[tuple[SessionState, ...], Few] = ()
    #: Only those that came with this batch.
    batch_id: uuid.UUID | None = None
    #: Only those whose file was called exactly so.
    file_name: str | None = None
    #: Only what was recorded at this time or later.
    recorded_from: Time | None = None
    #: Only what was recorded before this time.
    recorded_to: Time | None = None
    #: Only those whose metadata have all of this: a flat JSON object.
    metadata: (
        Annotated[str, msgspec.Meta(extra_json_schema={"contentMediaType": "application/json"})]
        | None
    ) = None
    #: By which field; with ``-`` the greatest first. Where it is null comes last.
    sort: Literal[
        "created_at", "-created_at", "recorded_at", "-recorded_at", "duration_s", "-duration_s",
        "finished_at", "-finished_at",
    ] = "-created_at"  # fmt: skip

    def __post_init__(self) -> None:
        """Look at what can be told from the parameters alone."""
        try:
            self.own_metadata()
        except ValueError as error:
            raise InvalidParameter.of([FieldError(field="metadata", detail=str(error))]) from None

    @property
    def recorded(self) -> tuple[datetime | None, datetime | None]:
        """The span in which it was recorded."""
        return self.recorded_from, self.recorded_to

    def own_metadata(self) -> Metadata:
        """What the metadata must have."""
        return {} if self.metadata is None else read_metadata(self.metadata)


class SessionPage(msgspec.Struct, kw_only=True):
    """A page of sessions."""

    items: list[schemas.Session]
    next_cursor: str | None


class DetectionQuery(Page, kw_only=True):
    """Which events of a session are listed, and in which order."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    #: Only this noise type or group and all types below it; several times for any of several.
    noise_type: Annotated[tuple[str, ...], Few] = ()
    #: Only events that are at least as sure.
    min_confidence: Confidence | None = None
    #: Only events that end behind this second of the recording.
    from_s: float | None = None
    #: Only events that begin before this second of the recording.
    to_s: float | None = None
    #: By which field; with ``-`` the greatest first. Where it is null comes last.
    sort: Literal[
        "start_s", "-start_s", "confidence", "-confidence", "laeq_db", "-laeq_db", "lafmax_db",
        "-lafmax_db",
    ] = "start_s"  # fmt: skip


class AllDetectionsQuery(HeardPage, kw_only=True):
    """Which events of all sessions are listed; times are those of their sessions."""


class FoundDetection(schemas.Detection, kw_only=True):
    """One event, and the session that it is of."""

    session_id: uuid.UUID
    file_name: str
    level_reference: str

    @classmethod
    def found(cls, row: Any) -> FoundDetection:
        """The event of a row: its own, its session's file, and what its levels refer to."""
        event = row[0]
        return cls(
            **{
                name: getattr(event, name)
                for name in schemas.Detection.__struct_fields__
                if name != "candidates"
            },
            candidates=msgspec.convert(event.candidates, list[schemas.Candidate]),
            session_id=event.session_id,
            file_name=row.file_name,
            level_reference=level_reference(row.calibration_db),
        )


class FoundDetectionPage(msgspec.Struct, kw_only=True):
    """A page of events: those of the newest session first, and of each the last first."""

    items: list[FoundDetection]
    next_cursor: str | None


class BatchQuery(CreatedPage, kw_only=True):
    """Which batches are listed, and in which order."""

    #: Only in this state; several times for any of several.
    state: Annotated[tuple[BatchState, ...], Few] = ()
    #: By which field; with ``-`` the latest first.
    sort: ByTime = "-created_at"


class ListedBatch(msgspec.Struct, kw_only=True):
    """A batch without what has to be counted in its files; where one is asked for, it is told."""

    id: uuid.UUID
    state: str
    priority: str
    created_at: datetime
    files_total: int
    problem: schemas.Problem | None

    @classmethod
    def of(cls, row: Any) -> ListedBatch:
        """The batch of a row."""
        return cls(
            id=row.id,
            state=row.state,
            priority=PRIORITIES[row.priority],
            created_at=row.created_at,
            files_total=row.items_total,
            problem=msgspec.convert(row.problem, schemas.Problem | None),
        )


class BatchPage(msgspec.Struct, kw_only=True):
    """A page of batches."""

    items: list[ListedBatch]
    next_cursor: str | None


class BatchItemQuery(Page, kw_only=True):
    """Which recordings of a batch are listed."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000
    #: Only in this state; several times for any of several.
    state: Annotated[tuple[ItemState, ...], Few] = ()


class ModelQuery(Page, kw_only=True):
    """In which order models are listed."""

    #: By which field; with ``-`` the latest first.
    sort: ByTime = "-created_at"


class JobQuery(CreatedPage, kw_only=True):
    """Which trainings or validations are listed, and in which order."""

    #: Only in this state; several times for any of several.
    state: Annotated[tuple[JobState, ...], Few] = ()
    #: By which field; with ``-`` the latest first.
    sort: ByTime = "-created_at"


class ListedTraining(schemas.Task, kw_only=True):
    """A training without its clips; where one is asked for, they are told."""

    name: str
    version: str
    algorithm: str | None
    model_id: uuid.UUID | None

    @classmethod
    def of(cls, row: TrainingJob) -> ListedTraining:
        """The training of a row."""
        own = ("name", "algorithm", "model_id")
        values = {name: getattr(row, name) for name in own}
        return cls(**schemas.task_of(row), **values, version=str(row.version))


class TrainingPage(msgspec.Struct, kw_only=True):
    """A page of trainings."""

    items: list[ListedTraining]
    next_cursor: str | None


class ListedValidation(schemas.Task, kw_only=True):
    """A validation without its report; where one is asked for, it is told."""

    model_id: uuid.UUID | None

    @classmethod
    def of(cls, row: Validation) -> ListedValidation:
        """The validation of a row."""
        return cls(**schemas.task_of(row), model_id=row.model_id)


class ValidationPage(msgspec.Struct, kw_only=True):
    """A page of validations."""

    items: list[ListedValidation]
    next_cursor: str | None
