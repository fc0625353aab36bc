"""Answers about sessions and their detections; see :mod:`services.api.common.schemas`."""

from __future__ import annotations

import operator
import uuid
from datetime import datetime
from typing import Any

import msgspec

from actors.facts import rounding
from actors.facts.third_octaves import FIRST_BAND, NOMINAL_HZ, exact_hz
from db import typed
from db.queries.detection_queries import DetectionView
from db.queries.session_view_queries import SessionView
from db.tables.detections import NoiseDetection
from db.tables.documents.sessions import Band, Summary
from db.tables.sessions import PRIORITIES, UNFINISHED_STATES
from services.api.common.schemas import Problem, most_events_first
from services.api.sessions.progress import Progress


class RecordedAtSource(msgspec.Struct, kw_only=True):
    """Source of the recording time."""

    #: ``caller``, or its source in the file: ``guano``, ``bext``, ``ixml``, ``comment``,
    #: ``wamd``, ``tag``, ``file_name`` or ``creation_time``.
    origin: str = msgspec.field(name="from")
    #: How the time got its offset from UTC: ``given`` by the caller, from the ``file``, from the
    #: session's ``time_zone``, or ``assumed_utc`` without either.
    zone: str

    @classmethod
    def of(cls, row: SessionView) -> RecordedAtSource | None:
        """Return the source of a session's time. A time without a source is of the caller."""
        if row.recorded_at is None:
            return None
        return cls(origin=row.recorded_at_from or "caller", zone=row.recorded_at_zone or "given")


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
    #: The A-weighted self-noise of the instrument in dB SPL, as given by the caller.
    noise_floor_db: float | None
    #: The channels that are measured and analysed: energy_mean, loudest, or a number from 1.
    channel: str
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
    #: Start of the recording, as given by the caller, else as its file states it.
    recorded_at: datetime | None
    #: Source of ``recorded_at``; null if that is unknown.
    recorded_at_source: RecordedAtSource | None
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
            recorded_at_source=RecordedAtSource.of(row),
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
_READ = (
    "duration_s",
    "priority",
    "recorded_at_source",
    "thresholds",
    "metadata",
    "summary",
    "problem",
)
#: Fields that are copied from the row.
_COPIED = tuple(
    name
    for name in Session.__struct_fields__
    if name not in (*Progress.__dataclass_fields__, *_READ)
)
_copied = operator.attrgetter(*_COPIED)
_thresholds = typed.decoder(dict[str, float]).decode
_metadata = typed.decoder(dict[str, Any]).decode
_summary = typed.decoder(Summary | None).decode
_problem = typed.decoder(Problem | None).decode


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

    #: The same whenever the recording of the session is analysed again.
    id: uuid.UUID
    #: When it begins; null if the recording time of the session is unknown.
    heard_at: datetime | None
    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    #: Sound exposure level: LAeq plus 10 lg of the duration in seconds.
    lae_db: float | None
    #: Greatest LAS; null for sessions processed before it was measured.
    lasmax_db: float | None
    #: C-weighted peak; null for sessions processed before it was measured.
    lcpeak_db: float | None
    #: LA90 of the last 30 s of undisturbed sound before the onset; null if there are less than 5 s.
    background_la90_db: float | None
    #: LAeq of the detection minus `background_la90_db`, in dB.
    emergence_db: float | None
    #: Seconds of the detection in which LAF is more than 3 dB above `background_la90_db`.
    above_background_s: float | None
    #: Whether the recording is overloaded in the detection, so that its levels are lower bounds.
    #: Null for sessions processed before it was measured.
    overloaded: bool | None
    candidates: list[Candidate]
    #: Unweighted equivalent level of each third-octave band over the detection, from low to high.
    #: Null unless the session has ``bands=third_octave``; in lists also without
    #: ``include=third_octaves``.
    third_octaves: list[Band] | None = None

    @classmethod
    def of(cls, row: DetectionView) -> Detection:
        """Convert a row to a detection, with third octaves if the row was read with them."""
        values = row._asdict()
        values["candidates"] = _candidates(row.candidates)
        del values["third_octaves_db"]
        return cls(**values, third_octaves=bands_of(row))


_candidates = typed.decoder(list[Candidate]).decode


def bands_of(row: DetectionView | NoiseDetection) -> list[Band] | None:
    """Return the third octaves of a detection; None if they were not measured."""
    if row.third_octaves_db is None:
        return None
    return [
        Band(
            nominal_hz=NOMINAL_HZ[band],
            exact_hz=round(exact_hz(band), 4),
            lzeq_db=level_db,
        )
        for band, level_db in enumerate(row.third_octaves_db, FIRST_BAND)
    ]


class DetectionPage(msgspec.Struct, kw_only=True):
    """A page of a session's detections; pass ``next_cursor`` to get the next page."""

    items: list[Detection]
    level_reference: str
    next_cursor: str | None


class RecordingForm(msgspec.Struct, kw_only=True):
    """A form with a recording."""

    #: The recording. Its file name is stored for display.
    file: bytes
