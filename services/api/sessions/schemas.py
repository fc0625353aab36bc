"""What the API answers. Field names bear their units; null means "not known yet" or "none"."""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from actors.facts import rounding
from db.tables.base import Job
from db.tables.models import NoiseModel, Promotion
from db.tables.sessions import PRIORITIES, UNFINISHED_STATES, WAITING_FOR_STORAGE, NoiseDetection
from db.tables.training import TrainingClip, TrainingJob, Validation
from services.api.sessions.progress import Progress

SomeHeard = TypeVar("SomeHeard")


class Problem(msgspec.Struct, kw_only=True):
    """What was lost, and why."""

    code: str
    detail: str
    #: The seconds that are not in the answer: ``start_s``, ``end_s``, ``reason``.
    missing: list[dict[str, Any]] = []


class NoiseTypeSummary(msgspec.Struct, kw_only=True):
    """One noise type's part in a session."""

    events: int
    total_s: float
    max_confidence: float


class Summary(msgspec.Struct, kw_only=True):
    """A session in numbers. ``level_reference`` names what all levels refer to."""

    events: int
    #: By noise type, the one with most events first.
    noise_types: dict[str, NoiseTypeSummary]
    laeq_db: float | None
    lceq_db: float | None
    lzeq_db: float | None
    lae_db: float | None
    lafmax_db: float | None
    lasmax_db: float | None
    lafmin_db: float | None
    lcpeak_db: float | None
    l5_db: float | None
    l10_db: float | None
    l50_db: float | None
    l90_db: float | None
    l95_db: float | None
    level_reference: str
    #: The channel that was analysed in place of the mean of all, counted from 1: the loudest, where
    #: channels cancel each other in the mean, as inverted ones do. Null for the mean.
    analysed_channel: int | None = None
    #: Name and version of the model, and the backbone beside it, which names all base types; null
    #: where the model named the sounds alone, because no worker with the weights of the backbone
    #: was there.
    model: dict[str, str | None]
    #: The types that the model was trained on beside the base types, if they were not looked for
    #: because its backbone is missing.
    unused_types: list[str] = []


class Session(msgspec.Struct, kw_only=True):
    """A recording on its way from upload to answer."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    #: Seconds of audio heard per second; null unless it is being listened to.
    speed: float | None
    #: An estimate; null while nobody can tell, and at the end.
    time_left_s: float | None
    file_name: str
    #: Null until the recording is here.
    size_bytes: int | None
    #: Where it is fetched from; without the query, which may hold a secret.
    source_url: str | None
    container: str | None
    codec: str | None
    rate_hz: int | None
    n_channels: int | None
    duration_s: float | None
    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    #: The model that it is heard by; null until that is known.
    model_id: uuid.UUID | None
    #: By noise type, the confidence under which events are not reported.
    thresholds: dict[str, float]
    #: The noise types and groups that are reported, with all types below them; empty for all.
    types: list[str]
    #: What becomes of the recording: keep, mute or discard_audio.
    privacy: str
    #: When the recording was removed for its ``privacy``: all audio but a copy without speech. Null
    #: until then, and with ``keep``.
    audio_removed_at: datetime | None
    #: When the recording began, and where, as its sender said.
    recorded_at: datetime | None
    time_zone: str | None
    #: The sender's own.
    metadata: dict[str, Any]
    #: high, normal or low.
    priority: str
    #: The batch that it came with.
    batch_id: uuid.UUID | None
    #: The webhook that it names, to be told of its end.
    webhook_id: uuid.UUID | None
    spans_total: int
    spans_finished: int
    spans_failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    summary: Summary | None
    #: Null unless something was lost. Of a completed session its code is ``backbone-missing``: the
    #: model alone named the sounds, though other sessions are named with a backbone.
    problem: Problem | None

    @classmethod
    def of(cls, row: Any) -> Session:
        """The session of a row as ``db.queries.session_queries`` shows it."""
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
        """Whether the session has come to its end, good or bad."""
        return self.state not in UNFINISHED_STATES


#: What a session keeps as JSON, or otherwise than it shows it.
_READ = ("duration_s", "priority", "thresholds", "metadata", "summary", "problem")
#: What it shows as it stands in its row.
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
    """Return noise types in the order of answers: by falling number of events, then by name.

    The database keeps the fields of JSON in an order of its own.
    """
    return dict(sorted(noise_types.items(), key=lambda each: (-events(each[1]), each[0])))


def _ordered(summary: Summary | None) -> Summary | None:
    if summary is not None:
        summary.noise_types = most_events_first(
            summary.noise_types, events=operator.attrgetter("events")
        )
    return summary


class Candidate(msgspec.Struct, kw_only=True):
    """A noise type that an event may be, and its probability."""

    noise_type: str
    score: float


class Detection(msgspec.Struct, kw_only=True):
    """One event; ``candidates`` are the likeliest types, at most five, the likeliest first.

    Events of different types may overlap. The first candidate is the type of the event, unless that
    is a group or ``unclassified``.
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
        """The detection of a row."""
        return msgspec.convert(row, cls, from_attributes=True)


class DetectionPage(msgspec.Struct, kw_only=True):
    """A page of a session's events; ``next_cursor`` asks for the page behind."""

    items: list[Detection]
    level_reference: str
    next_cursor: str | None


class Band(msgspec.Struct, kw_only=True):
    """The level of a third octave."""

    nominal_hz: float
    exact_hz: float
    lzeq_db: float | None


class LevelSeries(msgspec.Struct, kw_only=True):
    """Levels over time; null is digital silence."""

    step_s: float
    laeq_db: list[float | None]
    lafmax_db: list[float | None]


class Levels(msgspec.Struct, kw_only=True):
    """The levels of a recording, as a worker wrote them down."""

    unit: str
    level_reference: str
    calibration_db: float | None
    duration_s: float
    #: From where to where the meter is vouched for at this recording's rate.
    supported_hz: tuple[float, float]
    #: Of the whole recording, by the names that they have in a session's summary.
    overall: dict[str, float | None]
    #: How often LAF is sampled.
    laf_interval_s: float
    #: Null unless ``bands=third_octave`` was asked for.
    third_octaves: list[Band] | None
    series: LevelSeries


class RecordingForm(msgspec.Struct, kw_only=True):
    """A form that bears a recording."""

    #: The recording. Its file name is kept, to be shown.
    file: bytes


class Model(msgspec.Struct, kw_only=True):
    """A classifier."""

    id: uuid.UUID
    name: str
    version: str
    algorithm: str
    classes: list[str]
    #: The types that it was trained on beside the base types, or that it refines; they need the
    #: backbone. Empty for a model that was trained on classes alone.
    trained_types: list[str]
    sha256: str
    is_shipped: bool
    #: Whether new sessions are given this one.
    in_use: bool
    created_at: datetime
    #: Of whole clips, held out in cross-validation; of a model that was not trained here what its
    #: file says, or null.
    clip_accuracy: float | None
    #: Counts, per-class precision and recall, confusion matrix, calibration, hashes, versions.
    #: Only where one model is asked for.
    card: dict[str, Any] | None = None

    @classmethod
    def of(cls, row: NoiseModel, *, in_use: bool, with_card: bool = False) -> Model:
        """The model of a row."""
        own = ("id", "name", "version", "sha256", "is_shipped", "created_at")
        return cls(
            **{name: getattr(row, name) for name in own},
            algorithm=str(row.header.get("algorithm", "")),
            classes=list(row.header["classes"]),
            trained_types=list(row.header.get("trained_types", ())),
            in_use=in_use,
            clip_accuracy=None if row.clip_accuracy is None else rounding.share(row.clip_accuracy),
            card=row.card if with_card else None,
        )


class Backbone(msgspec.Struct, kw_only=True):
    """The network that was trained on AudioSet, whose weights are fetched."""

    name: str
    sha256: str
    #: Whether the server that answers has the file. Workers on other machines have their own:
    #: ``clamor health`` says whether they use it.
    present: bool


class ModelPage(msgspec.Struct, kw_only=True):
    """A page of models, without their cards."""

    items: list[Model]
    next_cursor: str | None
    #: Null if ``CLAMOR_BACKBONE_URL`` is ``off``.
    backbone: Backbone | None


class RefusedClip(msgspec.Struct, kw_only=True):
    """A clip that was not used, and why."""

    file: str
    label: str
    start_s: float | None
    end_s: float | None
    reason: str


class Task(msgspec.Struct, kw_only=True):
    """Work that takes a while."""

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
        """Whether the job has come to its end, good or bad."""
        return self.state != "pending"


def task_of(row: Job) -> dict[str, Any]:
    """What all jobs show of their rows."""
    read = ("problem", "stage")
    values = {name: getattr(row, name) for name in Task.__struct_fields__ if name not in read}
    return values | {
        "problem": msgspec.convert(row.problem, Problem | None),
        "stage": WAITING_FOR_STORAGE if row.waits_for_storage else row.stage,
    }


class Training(Task, kw_only=True):
    """A model on its way: ``pending``, then ``completed`` or ``failed``."""

    name: str
    version: str
    algorithm: str | None
    clips_total: int
    clips_refused: list[RefusedClip]
    model_id: uuid.UUID | None
    #: What limits the worth of the model's figures; its card has them, too.
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
        """The training of a row; ``refused`` are the clips that could not be used."""
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
    """A look at a model: ``pending``, then ``completed`` or ``failed``.

    ``report`` bears ``passed`` and ``checks``, and where a labelled set was given ``figures`` and
    what they were counted from. ``model_id`` is null for a file that did not pass.
    """

    model_id: uuid.UUID | None
    report: dict[str, Any] | None

    @classmethod
    def of(cls, row: Validation) -> ValidationReport:
        """The validation of a row."""
        return cls(**task_of(row), model_id=row.model_id, report=row.report)


class PromotionRecord(msgspec.Struct, kw_only=True):
    """A model was put to use."""

    model_id: uuid.UUID
    promoted_at: datetime
    forced: bool
    comparison: dict[str, Any]

    @classmethod
    def of(cls, row: Promotion) -> PromotionRecord:
        """The promotion of a row."""
        return cls(**{name: getattr(row, name) for name in cls.__struct_fields__})


class Health(msgspec.Struct, kw_only=True):
    """Whether this process can do its work: ``ok``, or what is wrong with each part."""

    status: str
    checks: dict[str, str]
