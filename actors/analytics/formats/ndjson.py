"""Newline-delimited JSON with the field names of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import msgspec

from actors.analytics.formats.rows import Event, Recording


class NdJson:
    """One object per detection, with its candidates."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._encoder = msgspec.json.Encoder()

    def add(self, recording: Recording, events: Sequence[Event]) -> None:
        about = {
            "session_id": recording.session_id,
            "file_name": recording.file_name,
            "recorded_at": recording.recorded_at,
            "level_reference": recording.level_reference,
        }
        lines = [
            about | event._asdict() | {"group": event.group, "audioset_id": event.audioset_id}
            for event in events
        ]
        self._out.write(self._encoder.encode_lines(lines))

    def close(self) -> None:
        """Do nothing: all lines are written."""
