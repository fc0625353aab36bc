"""The summary of a session, and the answer about its levels."""

from __future__ import annotations

import msgspec


class NoiseTypeSummary(msgspec.Struct, kw_only=True):
    """Detections of one noise type in a session."""

    events: int
    total_s: float
    max_confidence: float


class Summary(msgspec.Struct, kw_only=True):
    """Summary of a session. ``level_reference`` is the reference of all levels."""

    events: int
    #: By noise type, most detections first.
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
    #: The channel that was analysed, counted from 1; null for the mean of all channels. The loudest
    #: channel is used if channels cancel each other in the mean, as inverted ones do.
    analysed_channel: int | None = None
    #: Name and version of the model, and the backbone, which detects all base types. The backbone
    #: is null if the model was used without it because no worker had its weights.
    model: dict[str, str | None]
    #: Types that the model was trained on in addition to the base types, but that were not detected
    #: because its backbone was missing.
    unused_types: list[str] = []
    #: Seconds from the beginning of the file to the beginning of its audio, which starts late in
    #: many videos. Times are on the clock of the file; levels exclude the time before.
    audio_begins_s: float = 0.0


class Band(msgspec.Struct, kw_only=True):
    """The level of a third-octave band."""

    nominal_hz: float
    exact_hz: float
    lzeq_db: float | None


class LevelSeries(msgspec.Struct, kw_only=True):
    """Levels over time; null is digital silence."""

    step_s: float
    laeq_db: list[float | None]
    lafmax_db: list[float | None]


class Levels(msgspec.Struct, kw_only=True):
    """The levels of a recording."""

    unit: str
    level_reference: str
    calibration_db: float | None
    duration_s: float
    #: Frequency range in which the levels are valid at the sample rate of this recording.
    supported_hz: tuple[float, float]
    #: Levels of the whole recording, by the names used in the summary of a session.
    overall: dict[str, float | None]
    #: Interval at which LAF is sampled.
    laf_interval_s: float
    #: Null unless ``bands=third_octave`` was requested.
    third_octaves: list[Band] | None
    series: LevelSeries
