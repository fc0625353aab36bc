"""Rich Transcription Time Marked: ten fields separated by spaces, a SPEAKER line per detection.

According to the evaluation plan of NIST's RT-09 (appendix A): type, file, channel, start, duration,
orthography, subtype, name, confidence, and signal look-ahead time; ``<NA>`` for missing values.
Fields must not contain spaces, so names are percent-encoded as in URLs: ``dog%20bark``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO
from urllib.parse import quote

from actors.analytics.formats.rows import ExportedRecording, Names
from db.queries.export_queries import ExportedEvent

#: Matches what ends a field or a line, the escape character, and the start of a comment or
#: ``<NA>``.
_NO_FIELD = re.compile(r"[\s%\x00-\x1f\x7f]|^[;<]")
MISSING = "<NA>"


def field(text: str) -> str:
    """Return a text as a field; ``urllib.parse.unquote`` restores it."""
    return _NO_FIELD.sub(lambda found: quote(found[0], safe=""), text) or MISSING


class Rttm:
    """One line per detection, for any number of recordings."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._names = Names(field)

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        file = self._names.of(recording)
        lines = (
            f"SPEAKER {file} 1 {event.start_s:.6f} {event.end_s - event.start_s:.6f} {MISSING}"
            f" {MISSING} {field(event.noise_type)} {event.confidence:.6f} {MISSING}\n"
            for event in events
        )
        self._out.write("".join(lines).encode())

    def close(self) -> None:
        """Do nothing: all lines are written."""
