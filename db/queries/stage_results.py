"""What each stage of a session writes at its end: columns of `AudioSession`, `SessionResult` and
`SessionSpan`.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import NotRequired, TypedDict

from db.tables.base import JsonObject, StoredHole, StoredProblem


class RecordedAtFound(TypedDict, total=False):
    """When the recording began, according to its file; nothing if the caller's time stands."""

    recorded_at: datetime
    recorded_at_from: str
    recorded_at_zone: str


class ProcessDone(RecordedAtFound):
    """What ``process`` writes: the model, the format of the recording, and when it began."""

    model_id: uuid.UUID
    container: str
    codec: str
    rate_hz: int
    n_channels: int


class BackboneOfSplit(TypedDict):
    """The backbone of the worker that splits a session; null if it has none."""

    backbone: str | None
    backbone_sha256: str | None


class SplitDone(BackboneOfSplit):
    """What ``split`` writes: the decoded recording, its levels and its spans."""

    duration_s: float
    missing_s: float
    holes: list[StoredHole]
    calibration_db: float | None
    totals: JsonObject
    n_samples: int
    grid_lead: int
    pcm_key: str
    wide_pcm_key: str | None
    levels_key: str
    bands_key: str | None
    spectrogram_key: str | None
    spans_total: int


class DetectDone(TypedDict):
    """What ``detect`` writes to a span: its scores, or why it was given up."""

    state: str
    scores: NotRequired[bytes]
    last_error: NotRequired[str]


class MutedAudio(TypedDict):
    """The copy of a recording without speech, and its spectrogram."""

    muted_key: str
    spectrogram_key: str


class QuarterColumns(TypedDict):
    """The figures of the quarter hours that a recording covers; null without its time."""

    quarter_mean_squares: list[float] | None
    quarter_overloads: list[float] | None
    quarter_overload_energies: list[float] | None


class AggregateDone(QuarterColumns):
    """What ``aggregate`` writes: the answer, what it lacks, and audio without speech."""

    #: A `Summary`.
    summary: JsonObject
    max_confidence: float | None
    backbone: str | None
    levels_answer_key: str
    problem: StoredProblem | None
    muted_key: NotRequired[str]
    spectrogram_key: NotRequired[str]
