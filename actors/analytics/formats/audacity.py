"""Audacity's label track: begin, end and label, by tabs; of one recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from actors.analytics.formats.rows import Event, Recording, cell


class Audacity:
    """A line an event, as Audacity exports labels in its standard format."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def add(self, _recording: Recording, events: Sequence[Event]) -> None:
        lines = (
            f"{event.start_s:.6f}\t{event.end_s:.6f}\t{cell(event.noise_type)}\n"
            for event in events
        )
        self._out.write("".join(lines).encode())

    def close(self) -> None:
        """Nothing is left."""
