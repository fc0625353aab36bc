"""Detections: those of a session, those of all sessions, and their sums."""

from __future__ import annotations

import uuid
from datetime import datetime

import msgspec


class Candidate(msgspec.Struct, kw_only=True):
    """A possible noise type of a detection, and its probability."""

    noise_type: str
    score: float


class Band(msgspec.Struct, kw_only=True):
    """The level of a third-octave band."""

    nominal_hz: float
    exact_hz: float
    lzeq_db: float | None


class Detection(msgspec.Struct, kw_only=True):
    """A detected sound, with its most probable types, best first."""

    id: uuid.UUID
    heard_at: datetime | None
    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    lae_db: float | None
    lasmax_db: float | None
    lcpeak_db: float | None
    background_la90_db: float | None
    emergence_db: float | None
    above_background_s: float | None
    overloaded: bool | None
    candidates: list[Candidate]
    third_octaves: list[Band] | None = None


class DetectionPage(msgspec.Struct, kw_only=True):
    """A page of a session's detections."""

    items: list[Detection]
    level_reference: str
    next_cursor: str | None


class FoundDetection(Detection, kw_only=True):
    """A detection with its session."""

    session_id: uuid.UUID
    file_name: str
    level_reference: str


class FoundDetectionPage(msgspec.Struct, kw_only=True):
    """A page of detections of all sessions."""

    items: list[FoundDetection]
    next_cursor: str | None


class SummedLevels(msgspec.Struct, kw_only=True):
    """The levels of the detections that have one reference."""

    level_reference: str
    laeq_db: float | None
    lafmax_db: float | None


class SummedDetections(msgspec.Struct, kw_only=True):
    """The detections of one hour, day or type."""

    begins_at: datetime | None
    noise_type: str | None
    events: int
    total_s: float
    levels: list[SummedLevels]


class DetectionSummary(msgspec.Struct, kw_only=True):
    """Detections, summed up by hour, day or type."""

    by: str
    time_zone: str
    heard_from: datetime
    heard_to: datetime
    items: list[SummedDetections]
