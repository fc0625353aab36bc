"""Analyses of sessions; docs/analytics.md explains their figures."""

from __future__ import annotations

import msgspec

from services.client.wire.sessions import Overload
from services.client.wire.tasks import AsyncTask


class TypeHeard(msgspec.Struct, kw_only=True):
    """Statistics of one noise type."""

    noise_type: str
    group: str | None = None
    events: int
    total_s: float
    heard_s: float
    heard_share: float
    mean_confidence: float
    min_confidence: float
    max_confidence: float
    confidence_events: list[int]


class Confidence(msgspec.Struct, kw_only=True):
    """Histogram of confidence: the number of detections in each class, from 0 up."""

    class_width: float
    events: list[int]


class Minutes(msgspec.Struct, kw_only=True):
    """The session minute by minute; the last minute may be shorter."""

    step_s: float
    laeq_db: list[float | None]
    overloaded_s: list[float] | None = None
    events_begun: dict[str, list[int]]
    heard_s: dict[str, list[float]]


class LoudEvent(msgspec.Struct, kw_only=True):
    """One of the loudest detections."""

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    overloaded: bool | None = None


class EnergyPart(msgspec.Struct, kw_only=True):
    """A part of the sound energy."""

    share: float
    laeq_db: float | None


class TypeEnergy(EnergyPart, kw_only=True):
    """The sound energy of a noise type."""

    noise_type: str


class Energy(msgspec.Struct, kw_only=True):
    """Distribution of the A-weighted sound energy; the shares add up to 1."""

    laeq_db: float | None
    noise_types: list[TypeEnergy]
    background: EnergyPart
    unheard: EnergyPart
    main_source: str


class Exceedance(msgspec.Struct, kw_only=True):
    """Seconds in which a level exceeded a limit."""

    level: str
    limit_db: float
    above_s: float
    above_share: float
    exceedances: int
    longest_s: float
    longest_start_s: float | None
    heard_s: dict[str, float]
    background_s: float


class Stage(msgspec.Struct, kw_only=True):
    """Runs of one processing step."""

    step: str
    runs: dict[str, int]
    total_s: float
    longest_s: float
    times_real_time: float | None


class Processing(msgspec.Struct, kw_only=True):
    """Processing statistics of the session."""

    waited_s: float | None
    took_s: float | None
    times_real_time: float | None
    stages: list[Stage]
    retries: int
    spans_total: int
    spans_failed: int
    missing_s: float


class AnalysisResult(msgspec.Struct, kw_only=True):
    """The result of an analysis. Noise types are those of detections, without ``background``."""

    duration_s: float
    level_reference: str
    overload: Overload | None = None
    events: int
    heard_s: float
    heard_share: float
    noise_types: list[TypeHeard]
    confidence: Confidence
    minutes: Minutes
    loudest: list[LoudEvent]
    energy: Energy | None
    exceedances: list[Exceedance] | None
    processing: Processing


class Analysis(AsyncTask, kw_only=True):
    """An analysis of a session; its ``id`` is the session's."""

    limits_db: dict[str, list[float]]
    result: AnalysisResult | None
