"""JSON, a line each event, with the names of the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

import msgspec

from actors.analytics.formats.rows import Event, Recording


class NdJson:
    """An object an event, with its candidates."""

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
        self._out.write(self._encoder.encode_lines([about | event._asdict() for event in events]))

    def close(self) -> None:
        """Nothing is left."""
