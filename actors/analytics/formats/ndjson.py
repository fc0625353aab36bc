"""Newline-delimited JSON with the field names of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import msgspec

from actors.analytics.formats.rows import ExportedRecording, Taxonomy
from db.queries.export_queries import ExportedEvent


class NdJson:
    """One object per detection, with its candidates."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._encoder = msgspec.json.Encoder()

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        about = {
            "session_id": recording.session_id,
            "file_name": recording.file_name,
            "recorded_at": recording.recorded_at,
            "level_reference": recording.level_reference,
        }
        lines = [about | event._asdict() | Taxonomy.of(event)._asdict() for event in events]
        self._out.write(self._encoder.encode_lines(lines))

    def close(self) -> None:
        """Do nothing: all lines are written."""
