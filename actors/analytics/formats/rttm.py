"""Rich Transcription Time Marked: ten fields by spaces, a SPEAKER line an event.

As the evaluation plan of NIST's RT-09 has it (appendix A): type, file, channel, begin, duration,
orthography, subtype, name, confidence, and the signal's look-ahead, ``<NA>`` where there is none.
A field holds no space, so that a name is escaped as in an address: ``dog%20bark``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import IO
from urllib.parse import quote

from actors.analytics.formats.rows import Event, Names, Recording

#: What would end a field or a line, the escape itself, and what begins a comment or an ``<NA>``.
_NO_FIELD = re.compile(r"[\s%\x00-\x1f\x7f]|^[;<]")
MISSING = "<NA>"


def field(text: str) -> str:
    """A text as a field; ``urllib.parse.unquote`` brings it back."""
    return _NO_FIELD.sub(lambda found: quote(found[0], safe=""), text) or MISSING


class Rttm:
    """A line an event, of any number of recordings."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._names = Names(field)

    def add(self, recording: Recording, events: Sequence[Event]) -> None:
        file = self._names.of(recording)
        lines = (
            f"SPEAKER {file} 1 {event.start_s:.6f} {event.end_s - event.start_s:.6f} {MISSING}"
            f" {MISSING} {field(event.noise_type)} {event.confidence:.6f} {MISSING}\n"
            for event in events
        )
        self._out.write("".join(lines).encode())

    def close(self) -> None:
        """Nothing is left."""
