"""Raven's selection table of one recording.

A selection is a box in time and frequency. A detection has no frequency bounds, so its box covers
0 Hz to half the sample rate of the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from actors.analytics.formats.rows import ExportedRecording, Taxonomy, cell, flag
from db.queries.export_queries import ExportedEvent

COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin File",
    "Annotation",
    "Confidence",
    "LAeq (dB)",
    "LAFmax (dB)",
    "Level Reference",
    "Group",
    "AudioSet ID",
    "LAE (dB)",
    "LASmax (dB)",
    "LCpeak (dB)",
    "Background LA90 (dB)",
    "Emergence (dB)",
    "Above Background (s)",
    "Overloaded",
)
#: For recordings of unknown sample rate.
_USUAL_RATE_HZ = 48_000


class Raven:
    """One line per detection. Selections are counted from 1."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._n_selections = 0
        self._write([COLUMNS])

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        self._write([self._line(recording, event) for event in events])

    def close(self) -> None:
        """Do nothing: all lines are written."""

    def _line(self, recording: ExportedRecording, event: ExportedEvent) -> Sequence[str]:
        self._n_selections += 1
        return (
            str(self._n_selections),
            "Spectrogram 1",
            "1",
            f"{event.start_s:.6f}",
            f"{event.end_s:.6f}",
            "0.0",
            f"{(recording.rate_hz or _USUAL_RATE_HZ) / 2:.1f}",
            cell(recording.file_name),
            cell(event.noise_type),
            f"{event.confidence:.6f}",
            _number(event.laeq_db),
            _number(event.lafmax_db),
            recording.level_reference,
            *(each or "" for each in Taxonomy.of(event)),
            _number(event.lae_db),
            _number(event.lasmax_db),
            _number(event.lcpeak_db),
            _number(event.background_la90_db),
            _number(event.emergence_db),
            _number(event.above_background_s),
            flag(event.overloaded),
        )

    def _write(self, lines: Sequence[Sequence[str]]) -> None:
        self._out.write("".join("\t".join(line) + "\n" for line in lines).encode())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
