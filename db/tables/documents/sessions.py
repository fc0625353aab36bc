"""The summary of a session, and the answer about its levels."""

from __future__ import annotations

import msgspec


class NoiseTypeSummary(msgspec.Struct, kw_only=True):
    """Detections of one noise type in a session."""

    events: int
    total_s: float
    max_confidence: float


class Overload(msgspec.Struct, kw_only=True):
    """The overloaded part of a recording, in which its waveform is cut off.

    Unless it is empty, all levels of the recording are lower bounds.
    """

    overloaded_s: float
    #: ``overloaded_s`` as a share of the recording without its holes.
    share: float
    #: Start of the first overloaded step of 10 ms; null if there is none.
    first_s: float | None


class UnderRange(msgspec.Struct, kw_only=True):
    """The part of a recording whose levels the self-noise of the instrument raises."""

    #: Levels below this are too high by more than 0.8 dB.
    limit_db: float
    #: Sum of the seconds with an LAeq below the limit.
    under_range_s: float
    #: ``under_range_s`` as a share of the recording without its holes.
    share: float
    #: Names of the levels of the recording that are below the limit: they are upper bounds.
    upper_bounds: list[str]


class ChannelSummary(msgspec.Struct, kw_only=True):
    """The channels of a recording, counted from 1; those in no other list are live."""

    #: The channels that the levels and the detections are of.
    used: list[int]
    #: Channels without sound: at least 30 dB (A-weighted) below the loudest one, or with mostly
    #: unusable samples.
    silent: list[int]
    #: Channels with the same sound as an earlier one.
    identical: list[int]
    #: Channels that are inverted copies of an earlier one.
    inverted: list[int]


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
    #: Null for sessions processed before it was measured.
    overload: Overload | None = None
    #: Null unless ``noise_floor_db`` was given.
    under_range: UnderRange | None = None
    #: Which channels the levels and the detections are of; null for a recording of one channel.
    channels: ChannelSummary | None = None
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


class ChannelLevels(msgspec.Struct, kw_only=True):
    """The levels of one channel over the whole recording."""

    #: Its number, counted from 1.
    channel: int
    #: Whether the levels and the detections of the recording are of this channel, among others.
    is_used: bool
    #: ``live``, ``silent``, ``identical`` or ``inverted``.
    state: str
    #: The channel that it is identical to, or an inverted copy of; otherwise null.
    other_channel: int | None
    laeq_db: float | None
    lceq_db: float | None
    lzeq_db: float | None
    lcpeak_db: float | None


class LevelSeries(msgspec.Struct, kw_only=True):
    """Levels over time; null is digital silence, or a second without audio."""

    step_s: float
    laeq_db: list[float | None]
    lafmax_db: list[float | None]
    #: Whether the second contains overload, so that its levels are lower bounds. Null for
    #: sessions processed before it was measured.
    overloaded: list[bool] | None = None
    #: Whether LAeq is below ``under_range.limit_db``, so that it is an upper bound. Null unless
    #: ``noise_floor_db`` was given.
    under_range: list[bool] | None = None


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
    #: As in the summary of a session.
    overload: Overload | None = None
    #: As in the summary of a session.
    under_range: UnderRange | None = None
    #: The levels of each channel, whether used or not. Missing for recordings that were measured
    #: before these were kept.
    channels: list[ChannelLevels] = []
    #: Interval at which LAF is sampled.
    laf_interval_s: float
    #: Null unless ``bands=third_octave`` was requested.
    third_octaves: list[Band] | None
    series: LevelSeries
