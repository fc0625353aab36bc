"""The event list of the DCASE challenges, as read by sed_eval and dcase_util.

The columns are file, onset, offset and label, separated by tabs, without a header. A recording
without detections is a line with only its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from actors.analytics.formats.rows import ExportedRecording, Names, cell
from db.queries.export_queries import ExportedEvent


class Dcase:
    """One line per detection, for any number of recordings."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._names = Names(cell)

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        file = self._names.of(recording)
        lines = [
            f"{file}\t{event.start_s:.6f}\t{event.end_s:.6f}\t{cell(event.noise_type)}\n"
            for event in events
        ]
        self._out.write("".join(lines or [f"{file}\n"]).encode())

    def close(self) -> None:
        """Do nothing: all lines are written."""
