"""CSV according to RFC 4180, with one header line, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import IO

from actors.analytics.formats.rows import ExportedRecording, Taxonomy, flag, iso
from db.queries.export_queries import ExportedEvent

COLUMNS = (
    "session_id",
    "file_name",
    "recorded_at",
    "event_index",
    "start_s",
    "end_s",
    "noise_type",
    "confidence",
    "laeq_db",
    "lafmax_db",
    "level_reference",
    "group",
    "audioset_id",
    "lae_db",
    "lasmax_db",
    "lcpeak_db",
    "background_la90_db",
    "emergence_db",
    "above_background_s",
    "overloaded",
)

#: Characters that start a formula in a spreadsheet, with their full-width forms, and the apostrophe
#: that marks text.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20'")


def safe(text: str) -> str:
    """Return a text that no spreadsheet evaluates: an apostrophe precedes a would-be formula.

    To undo this, remove one leading apostrophe.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


class CsvTable:
    """One row per detection; the ``more`` columns come last."""

    def __init__(self, out: IO[bytes], *, more: Sequence[str] = ()) -> None:
        self._out = out
        self._write([[*COLUMNS, *more]])

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        self._write([_row(recording, event) for event in events])

    def add_one(self, recording: ExportedRecording, event: ExportedEvent, *more: str) -> None:
        """Write one detection and the values of the additional columns."""
        self._write([[*_row(recording, event), *map(safe, more)]])

    def close(self) -> None:
        """Do nothing: all rows are written."""

    def _write(self, rows: list[list[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._out.write(text.getvalue().encode())


def _row(recording: ExportedRecording, event: ExportedEvent) -> list[object]:
    return [
        recording.session_id,
        safe(recording.file_name),
        iso(recording.recorded_at),
        event.event_index,
        event.start_s,
        event.end_s,
        safe(event.noise_type),
        event.confidence,
        event.laeq_db,
        event.lafmax_db,
        recording.level_reference,
        *Taxonomy.of(event),
        event.lae_db,
        event.lasmax_db,
        event.lcpeak_db,
        event.background_la90_db,
        event.emergence_db,
        event.above_background_s,
        flag(event.overloaded),
    ]
