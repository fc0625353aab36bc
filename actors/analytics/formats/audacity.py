"""Audacity's label track of one recording: start, end and label, separated by tabs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from actors.analytics.formats.rows import ExportedRecording, cell
from db.queries.export_queries import ExportedEvent


class Audacity:
    """One line per detection, in the standard format of Audacity's label export."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def add(self, _recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        lines = (
            f"{event.start_s:.6f}\t{event.end_s:.6f}\t{cell(event.noise_type)}\n"
            for event in events
        )
        self._out.write("".join(lines).encode())

    def close(self) -> None:
        """Do nothing: all lines are written."""
