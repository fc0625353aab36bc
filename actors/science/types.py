"""The plain data that the science modules hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from actors.facts.noise_types import BACKGROUND, UNCLASSIFIED

__all__ = [
    "BACKGROUND",
    "UNCLASSIFIED",
    "AudioFormat",
    "Candidate",
    "Chunk",
    "Event",
    "Span",
]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What a file's header says of its audio.

    ``n_frames`` is what the header promises, ``None`` when it does not know: streaming recorders
    and several lossy formats do not.
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
class Candidate:
    """A noise type that an event may be, and its probability."""

    noise_type: str
    score: float


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of one noise type.

    ``confidence`` lies in [0, 1]; ``candidates`` are the likeliest types with their
    probabilities, the likeliest first. Levels are A-weighted, in dB re digital full scale (a
    full-scale sine is -3.01 dB) unless they were calibrated, and ``None`` where nothing was to
    be measured.
    """

    start_s: float
    end_s: float
    noise_type: str
    confidence: float
    laeq_db: float | None
    lafmax_db: float | None
    candidates: tuple[Candidate, ...] = ()
