"""The result of an analysis; docs/analytics.md explains how it is computed."""

from __future__ import annotations

import msgspec

from db.tables.documents.sessions import Overload


class TypeHeard(msgspec.Struct, kw_only=True):
    """Statistics of one noise type."""

    noise_type: str
    #: The group of the type; null for a type that is not in ``GET /v1/noise-types``.
    group: str | None = None
    events: int
    #: Sum of the durations of the detections: overlaps count several times.
    total_s: float
    #: Duration during which the type was detected: overlaps count once.
    heard_s: float
    #: ``heard_s`` as a share of the recording.
    heard_share: float
    mean_confidence: float
    min_confidence: float
    max_confidence: float
    #: Number of detections in each confidence class; see ``confidence``.
    confidence_events: list[int]


class Confidence(msgspec.Struct, kw_only=True):
    """Histogram of confidence: the number of detections in each class, from 0 up."""

    class_width: float
    events: list[int]


class Minutes(msgspec.Struct, kw_only=True):
    """The session minute by minute; the last minute may be shorter."""

    step_s: float
    #: LAeq; null for digital silence, and where no levels are stored.
    laeq_db: list[float | None]
    #: The overloaded seconds of each; null where overload was not measured.
    overloaded_s: list[float] | None = None
    #: By noise type: the number of detections that start in the minute.
    events_begun: dict[str, list[int]]
    #: By noise type: the seconds during which it was detected.
    heard_s: dict[str, list[float]]


class LoudEvent(msgspec.Struct, kw_only=True):
    """One of the loudest detections."""

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    #: Whether its levels are lower bounds; null where overload was not measured.
    overloaded: bool | None = None


class EnergyPart(msgspec.Struct, kw_only=True):
    """A part of the sound energy."""

    share: float
    #: The LAeq that the recording would have from this part alone; null if it has no energy.
    laeq_db: float | None


class TypeEnergy(EnergyPart, kw_only=True):
    """The sound energy of a noise type."""

    noise_type: str


class Energy(msgspec.Struct, kw_only=True):
    """Distribution of the A-weighted sound energy; the shares add up to 1."""

    #: LAeq of the whole recording.
    laeq_db: float | None
    #: Largest share first. The energy of overlapping types is split equally between them.
    noise_types: list[TypeEnergy]
    #: Energy of the time without a detection.
    background: EnergyPart
    #: Energy of the time without a detection that was not analysed because parts were lost.
    unheard: EnergyPart
    #: The source with the largest share: a noise type, or ``background``.
    main_source: str


class Exceedance(msgspec.Struct, kw_only=True):
    """Seconds in which a level exceeded a limit."""

    #: ``LAeq`` or ``LAFmax``.
    level: str
    limit_db: float
    above_s: float
    #: ``above_s`` as a share of the recording.
    above_share: float
    #: Number of exceedances; consecutive seconds count as one.
    exceedances: int
    longest_s: float
    #: Start of the longest exceedance; null if there is none.
    longest_start_s: float | None
    #: By noise type: the seconds above the limit in which it was detected.
    heard_s: dict[str, float]
    #: Seconds above the limit without a detection.
    background_s: float


class Stage(msgspec.Struct, kw_only=True):
    """Runs of one processing step."""

    step: str
    #: Number of runs by result, such as ``done`` and ``retried``.
    runs: dict[str, int]
    #: Total duration of all runs.
    total_s: float
    longest_s: float
    #: Seconds of audio processed per second of work.
    times_real_time: float | None


class Processing(msgspec.Struct, kw_only=True):
    """Processing statistics of the session."""

    #: Time from upload until a worker started the session.
    waited_s: float | None
    #: Time from that start until the session finished.
    took_s: float | None
    #: Seconds of audio processed per second, from start to finish.
    times_real_time: float | None
    stages: list[Stage]
    #: Runs that failed and were retried.
    retries: int
    spans_total: int
    spans_failed: int
    #: Seconds of the recording that are missing from the result.
    missing_s: float


class AnalysisResult(msgspec.Struct, kw_only=True):
    """The result of an analysis. Noise types are those of detections, without ``background``."""

    duration_s: float
    #: The reference of all levels and limits.
    level_reference: str
    #: As in the summary of the session.
    overload: Overload | None = None
    events: int
    #: Duration during which anything was detected: overlaps count once.
    heard_s: float
    heard_share: float
    #: Noise types, longest duration first.
    noise_types: list[TypeHeard]
    confidence: Confidence
    minutes: Minutes
    #: The loudest detections by LAFmax; at most ten.
    loudest: list[LoudEvent]
    #: Null for digital silence, and where no levels are stored.
    energy: Energy | None
    #: One for each requested limit; null where no levels are stored.
    exceedances: list[Exceedance] | None
    processing: Processing
