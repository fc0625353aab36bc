"""Answers of the API. Field names contain units; null means "not known yet" or "none"."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from actors.facts import rounding
from db.documents.sessions import Summary
from db.queries.session_view_queries import SessionView
from db.tables.base import Job
from db.tables.models import NoiseModel, Promotion
from db.tables.sessions import PRIORITIES, UNFINISHED_STATES, WAITING_FOR_STORAGE, NoiseDetection
from db.tables.training import TrainingClip, TrainingJob, Validation
from services.api.sessions.progress import Progress

SomeHeard = TypeVar("SomeHeard")


class Problem(msgspec.Struct, kw_only=True):
    """The reason for a failure or for missing results."""

    code: str
    detail: str
    #: Intervals that are missing from the result: ``start_s``, ``end_s``, ``reason``.
    missing: list[dict[str, Any]] = []


class Session(msgspec.Struct, kw_only=True):
    """One recording, from upload to result."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    #: Seconds of audio analysed per second; null unless the state is ``detecting``.
    speed: float | None
    #: An estimate; null while unknown, and at the end.
    time_left_s: float | None
    file_name: str
    #: Null until the recording has been fetched.
    size_bytes: int | None
    #: The URL of the recording, without the query, which may contain a secret.
    source_url: str | None
    container: str | None
    codec: str | None
    rate_hz: int | None
    n_channels: int | None
    duration_s: float | None
    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    #: The model that classifies the recording; null until known.
    model_id: uuid.UUID | None
    #: By noise type, the confidence below which detections are not reported.
    thresholds: dict[str, float]
    #: The noise types and groups to report, with all types below them; empty for all.
    types: list[str]
    #: What happens to the recording: keep, mute or discard_audio.
    privacy: str
    #: When the audio was removed because of ``privacy``, except for the copy without speech. Null
    #: until then, and with ``keep``.
    audio_removed_at: datetime | None
    #: Start of the recording, as given by the caller.
    recorded_at: datetime | None
    #: Time zone of the recording, as given by the caller.
    time_zone: str | None
    #: Metadata provided by the caller.
    metadata: dict[str, Any]
    #: high, normal or low.
    priority: str
    #: The batch of the session; null if it was not uploaded in one.
    batch_id: uuid.UUID | None
    #: The webhook named in the request, which is notified when the session ends.
    webhook_id: uuid.UUID | None
    spans_total: int
    spans_finished: int
    spans_failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    summary: Summary | None
    #: Null unless something went wrong. In a completed session, the code is ``backbone-missing``:
    #: this session was analysed without the backbone that the installation uses.
    problem: Problem | None

    @classmethod
    def of(cls, row: SessionView) -> Session:
        """Convert a row to a session."""
        progress = Progress.of(row, now=row.now)
        return cls(
            **dict(zip(_COPIED, _copied(row), strict=True)),
            stage=progress.stage,
            percent=progress.percent,
            speed=progress.speed,
            time_left_s=progress.time_left_s,
            priority=PRIORITIES[row.priority],
            duration_s=None if row.duration_s is None else rounding.seconds(row.duration_s),
            thresholds=_thresholds(row.thresholds),
            metadata=_metadata(row.metadata),
            summary=_ordered(_summary(row.summary or "null")),
            problem=_problem(row.problem or "null"),
        )

    @property
    def finished(self) -> bool:
        """Whether the session has ended, successfully or not."""
        return self.state not in UNFINISHED_STATES


#: Fields that are stored as JSON or need a conversion.
_READ = ("duration_s", "priority", "thresholds", "metadata", "summary", "problem")
#: Fields that are copied from the row.
_COPIED = tuple(
    name
    for name in Session.__struct_fields__
    if name not in (*Progress.__dataclass_fields__, *_READ)
)
_copied = operator.attrgetter(*_COPIED)
_thresholds = msgspec.json.Decoder(dict[str, float]).decode
_metadata = msgspec.json.Decoder(dict[str, Any]).decode
_summary = msgspec.json.Decoder(Summary | None).decode
_problem = msgspec.json.Decoder(Problem | None).decode


def most_events_first(
    noise_types: Mapping[str, SomeHeard], *, events: Callable[[SomeHeard], int]
) -> dict[str, SomeHeard]:
    """Sort noise types for an answer: by descending number of events, then by name.

    The database does not keep the order of JSON fields.
    """
    return dict(sorted(noise_types.items(), key=lambda each: (-events(each[1]), each[0])))


def _ordered(summary: Summary | None) -> Summary | None:
    if summary is not None:
        summary.noise_types = most_events_first(
            summary.noise_types, events=operator.attrgetter("events")
        )
    return summary


class Candidate(msgspec.Struct, kw_only=True):
    """A possible noise type of a detection, and its probability."""

    noise_type: str
    score: float


class Detection(msgspec.Struct, kw_only=True):
    """A detected sound. ``candidates`` are its most probable types, at most five, best first.

    Detections of different types may overlap. The first candidate is the ``noise_type`` of the
    detection, unless that is a group or ``unclassified``.
    """

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    candidates: list[Candidate]

    @classmethod
    def of(cls, row: NoiseDetection) -> Detection:
        """Convert a row to a detection."""
        return msgspec.convert(row, cls, from_attributes=True)


class DetectionPage(msgspec.Struct, kw_only=True):
    """A page of a session's detections; pass ``next_cursor`` to get the next page."""

    items: list[Detection]
    level_reference: str
    next_cursor: str | None


class RecordingForm(msgspec.Struct, kw_only=True):
    """A form with a recording."""

    #: The recording. Its file name is stored for display.
    file: bytes


class Model(msgspec.Struct, kw_only=True):
    """A classifier."""

    id: uuid.UUID
    name: str
    version: str
    algorithm: str
    classes: list[str]
    #: Types that the model was trained on in addition to the base types, or refines; they need the
    #: backbone. Empty for a model that was trained on classes alone.
    trained_types: list[str]
    sha256: str
    is_shipped: bool
    #: Whether new sessions use this model by default.
    in_use: bool
    created_at: datetime
    #: Accuracy on whole clips held out in cross-validation. For a model that was not trained here,
    #: the value in its file, or null.
    clip_accuracy: float | None
    #: Counts, per-class precision and recall, confusion matrix, calibration, hashes, versions.
    #: Null in lists.
    card: dict[str, Any] | None = None

    @classmethod
    def of(cls, row: NoiseModel, *, in_use: bool, with_card: bool = False) -> Model:
        """Convert a row to a model."""
        own = ("id", "name", "version", "sha256", "is_shipped", "created_at")
        return cls(
            **{name: getattr(row, name) for name in own},
            algorithm=str(row.header.get("algorithm", "")),
            classes=list(row.header["classes"]),
            trained_types=list(row.header.get("trained_types", ())),
            in_use=in_use,
            clip_accuracy=None if row.clip_accuracy is None else rounding.share(row.clip_accuracy),
            card=dict(row.card) if with_card and row.card is not None else None,
        )


class Backbone(msgspec.Struct, kw_only=True):
    """The network trained on AudioSet, whose weights are downloaded."""

    name: str
    sha256: str
    #: Whether this server has the file. Workers on other machines have their own copies; ``clamor
    #: health`` shows whether they use them.
    present: bool


class ModelPage(msgspec.Struct, kw_only=True):
    """A page of models, without their cards."""

    items: list[Model]
    next_cursor: str | None
    #: Null if ``CLAMOR_BACKBONE_URL`` is ``off``.
    backbone: Backbone | None


class RefusedClip(msgspec.Struct, kw_only=True):
    """A clip that was not used, with the reason."""

    file: str
    label: str
    start_s: float | None
    end_s: float | None
    reason: str


class Task(msgspec.Struct, kw_only=True):
    """An asynchronous task."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    problem: Problem | None

    @property
    def finished(self) -> bool:
        """Whether the task has ended, successfully or not."""
        return self.state != "pending"


def task_of(row: Job) -> dict[str, Any]:
    """Return the fields that all tasks share, from a row."""
    read = ("problem", "stage")
    values = {name: getattr(row, name) for name in Task.__struct_fields__ if name not in read}
    return values | {
        "problem": msgspec.convert(row.problem, Problem | None),
        "stage": WAITING_FOR_STORAGE if row.waits_for_storage else row.stage,
    }


class Training(Task, kw_only=True):
    """The training of a model: ``pending``, then ``completed`` or ``failed``."""

    name: str
    version: str
    algorithm: str | None
    clips_total: int
    clips_refused: list[RefusedClip]
    model_id: uuid.UUID | None
    #: Limitations of the metrics of the model; its card contains them too.
    warnings: list[str]

    @classmethod
    def of(
        cls,
        row: TrainingJob,
        *,
        n_clips: int,
        refused: Sequence[TrainingClip],
        model: NoiseModel | None = None,
    ) -> Training:
        """Convert a row to a training; ``refused`` are the clips that could not be used."""
        return cls(
            **task_of(row),
            name=row.name,
            algorithm=row.algorithm,
            model_id=row.model_id,
            version=str(row.version),
            warnings=[] if model is None else list(model.header.get("warnings", ())),
            clips_total=n_clips,
            clips_refused=[
                RefusedClip(
                    file=clip.file_name,
                    label=clip.label,
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    reason=clip.reason or "",
                )
                for clip in refused
            ],
        )


class ValidationReport(Task, kw_only=True):
    """The validation of a model: ``pending``, then ``completed`` or ``failed``.

    ``report`` contains ``passed`` and ``checks`` and, if a labelled set was sent, ``figures`` and
    the counts behind them. ``model_id`` is null for a file that did not pass.
    """

    model_id: uuid.UUID | None
    report: dict[str, Any] | None

    @classmethod
    def of(cls, row: Validation) -> ValidationReport:
        """Convert a row to a validation."""
        return cls(
            **task_of(row),
            model_id=row.model_id,
            report=None if row.report is None else dict(row.report),
        )


class PromotionRecord(msgspec.Struct, kw_only=True):
    """A promotion of a model."""

    model_id: uuid.UUID
    promoted_at: datetime
    forced: bool
    comparison: dict[str, Any]

    @classmethod
    def of(cls, row: Promotion) -> PromotionRecord:
        """Convert a row to a promotion."""
        return cls(**{name: getattr(row, name) for name in cls.__struct_fields__})


class Health(msgspec.Struct, kw_only=True):
    """The health of this process: ``ok``, or the failure of each check."""

    status: str
    checks: dict[str, str]
