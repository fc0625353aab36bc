"""Two events of a recording, and what an export format writes of them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Sequence
from typing import IO

from actors.analytics.formats.rows import ExportedRecording, FormatWriter, Sink
from db.queries.export_queries import ExportedEvent

Rows = Sequence[tuple[ExportedRecording, Sequence[ExportedEvent]]]

DOG = ExportedEvent(0, 1.5, 2.25, "dog_bark", 0.9, -32.5, -20.0)
RAIN = ExportedEvent(1, 3.0, 60.0, "rain", 0.75, None, None)


def written(make: Callable[[IO[bytes]], FormatWriter], rows: Rows) -> bytes:
    out = io.BytesIO()
    writer = make(Sink(out))  # type: ignore[arg-type]
    for recording, events in rows:
        # As from the store: a recording with many detections comes in several pieces.
        for part in (events[:2], events[2:]) if len(events) > 2 else (events,):
            writer.add(recording, part)
    writer.close()
    return out.getvalue()


def one(
    *events: ExportedEvent, file_name: str = "street.wav", rate_hz: int | None = 48_000
) -> Rows:
    recording = ExportedRecording(
        session_id=uuid.uuid4(),
        file_name=file_name,
        recorded_at=None,
        rate_hz=rate_hz,
        used=(),
        level_reference="dBFS",
    )
    return [(recording, events)]
