"""Plain data types shared by the science modules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from actors.facts.noise_types import BACKGROUND, UNCLASSIFIED

__all__ = [
    "BACKGROUND",
    "UNCLASSIFIED",
    "AnyArray",
    "AudioFormat",
    "Chunk",
    "Event",
    "Hole",
    "HoleKind",
    "JsonDict",
    "Span",
    "TypeProbability",
]

#: An array of any type, such as one of a file before it is checked.
AnyArray = NDArray[Any]

#: A JSON object; its values are checked where they are read from a file or a request.
JsonDict = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Audio format from a file's header.

    ``n_frames`` is the length that the header declares; ``None`` if it declares none, as with
    streaming recorders and several lossy formats.
    """

    container: str
    codec: str
    rate_hz: int
    n_channels: int
    n_frames: int | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of the classifier: samples ``[start, stop)`` at 16 kHz."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Span:
    """The unit of a message: samples ``[start, stop)`` at 16 kHz, a whole number of chunks."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TypeProbability:
    """A possible noise type of an event, and its probability."""

    noise_type: str
    score: float


@dataclass(frozen=True, slots=True)
class Event:
    """An interval of one noise type.

    ``confidence`` is in [0, 1]; ``candidates`` are the most probable types with their
    probabilities, in descending order. Levels are in dB re digital full scale (a full-scale sine is
    -3.01 dB) unless calibrated, and ``None`` where nothing could be measured. If the recording is
    ``overloaded`` in it, they are lower bounds. Those after ``candidates`` are measured by
    `event_levels` once all events are known; ``third_octaves_db`` is the unweighted level of each
    band, from low to high, if bands are measured.
    """

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    candidates: tuple[TypeProbability, ...] = ()
    lae_db: float | None = None
    lasmax_db: float | None = None
    lcpeak_db: float | None = None
    background_la90_db: float | None = None
    emergence_db: float | None = None
    above_background_s: float | None = None
    overloaded: bool | None = None
    third_octaves_db: tuple[float | None, ...] | None = None


class HoleKind(StrEnum):
    """The reason for a hole. Its value is stored with the session."""

    #: The audio track begins later than the file, as in many videos.
    LATE_START = "late_start"
    #: The times of the packets skip an interval.
    GAP = "gap"
    #: The samples are not numbers, or absurdly large.
    BAD_SAMPLES = "bad_samples"
    #: The recorder did not write what was below its trigger.
    NOT_TRIGGERED = "not_triggered"


@dataclass(frozen=True)
class Hole:
    """A half-open interval of frames without audio, which are decoded as zeros; never empty."""

    start: int
    stop: int
    kind: HoleKind

    def __post_init__(self) -> None:
        if self.stop <= self.start:
            raise ValueError("a hole has at least one frame: stop must be greater than start")

    @property
    def n_frames(self) -> int:
        """Its length."""
        return self.stop - self.start
