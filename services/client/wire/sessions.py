"""Sessions."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec

from services.client.wire.tasks import Problem

#: States of a session that has not ended.
UNFINISHED_STATES = ("queued", "splitting", "detecting", "aggregating")


class NoiseTypeSummary(msgspec.Struct, kw_only=True):
    """Detections of one noise type in a session."""

    events: int
    total_s: float
    max_confidence: float


class Overload(msgspec.Struct, kw_only=True):
    """The overloaded part of a recording: unless it is empty, its levels are lower bounds."""

    overloaded_s: float
    share: float
    first_s: float | None


class UnderRange(msgspec.Struct, kw_only=True):
    """The part of a recording below ``limit_db``; the ``upper_bounds`` are levels below it."""

    limit_db: float
    under_range_s: float
    share: float
    upper_bounds: list[str]


class ChannelSummary(msgspec.Struct, kw_only=True):
    """The channels of a recording, counted from 1; those in no other list are live."""

    used: list[int]
    silent: list[int]
    identical: list[int]
    inverted: list[int]


class Summary(msgspec.Struct, kw_only=True):
    """Summary of a session. ``level_reference`` is the reference of all levels."""

    events: int
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
    overload: Overload | None = None
    under_range: UnderRange | None = None
    channels: ChannelSummary | None = None
    model: dict[str, str | None]
    unused_types: list[str] = []
    audio_begins_s: float = 0.0


class RecordedAtSource(msgspec.Struct, kw_only=True):
    """Source of the recording time."""

    origin: str = msgspec.field(name="from")
    zone: str


class Session(msgspec.Struct, kw_only=True):
    """One recording, from upload to result."""

    id: uuid.UUID
    state: str
    stage: str
    percent: int
    speed: float | None
    time_left_s: float | None
    file_name: str
    size_bytes: int | None
    source_url: str | None
    container: str | None
    codec: str | None
    rate_hz: int | None
    n_channels: int | None
    duration_s: float | None
    calibration_db: float | None
    calibration_tone_db: float | None
    bands: str | None
    noise_floor_db: float | None
    channel: str
    model_id: uuid.UUID | None
    thresholds: dict[str, float]
    types: list[str]
    privacy: str
    audio_removed_at: datetime | None
    recorded_at: datetime | None
    recorded_at_source: RecordedAtSource | None
    time_zone: str | None
    metadata: dict[str, object]
    priority: str
    batch_id: uuid.UUID | None
    webhook_id: uuid.UUID | None
    spans_total: int
    spans_finished: int
    spans_failed: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    summary: Summary | None
    problem: Problem | None

    @property
    def finished(self) -> bool:
        """Whether the session has ended, successfully or not."""
        return self.state not in UNFINISHED_STATES


class SessionPage(msgspec.Struct, kw_only=True):
    """A page of sessions."""

    items: list[Session]
    next_cursor: str | None


class Retries(msgspec.Struct, kw_only=True):
    """How many sessions are processed again, and how many match that are not yet."""

    retried: int
    left: int


class Deletions(msgspec.Struct, kw_only=True):
    """How many sessions were deleted, how many match that are not yet, and how many are held."""

    deleted: int
    left: int
    held: int
    trained_models: list[uuid.UUID]
