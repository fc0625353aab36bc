"""A ZIP archive with the audio and the picture of each detection, and a table of all."""

from __future__ import annotations

import io
import zipfile
from typing import IO

import numpy as np
from numpy.typing import NDArray

from actors.analytics.formats.archive import file_stem, member, member_name
from actors.analytics.formats.csv_table import CsvTable
from actors.analytics.formats.rows import ExportedRecording
from actors.science.audio_io import clips
from actors.science.plotting import plots
from db.queries.export_queries import ExportedEvent

#: The name of the table, and its columns after those of `CsvTable`.
TABLE = "events.csv"
MORE = ("clip", "picture")


class Clips:
    """FLAC files in ``clips/``, pictures in ``pictures/``, and ``events.csv``.

    The table is held in memory to the end; the caller bounds the number of clips.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(out, "w")
        self._rows: list[tuple[ExportedRecording, ExportedEvent, str, str]] = []

    def add(
        self,
        recording: ExportedRecording,
        event: ExportedEvent,
        samples: NDArray[np.float32] | None,
        rate_hz: int,
    ) -> None:
        """Write one detection; without samples only its row in the table.

        Parameters
        ----------
        samples
            [shape=(n, n_channels)], full scale = 1.0: the detection with `clips.MARGIN_S` around
            it.
        """
        if samples is None or not len(samples):
            self._rows.append((recording, event, "", ""))
            return
        name = f"{file_stem(recording)}-{event.event_index:05}-{member_name(event.noise_type)}"
        sound, picture = f"clips/{name}.flac", f"pictures/{name}.png"
        # Both are compressed already.
        content = clips.to_flac(samples, rate_hz, used=recording.used)
        self._zip.writestr(member(sound, packed=False), content)
        starts_s = max(event.start_s - clips.MARGIN_S, 0.0)
        drawn = plots.draw_clip(
            samples,
            rate_hz,
            used=recording.used,
            event_s=(event.start_s - starts_s, event.end_s - starts_s),
            title=f"{event.noise_type.replace('_', ' ')}, {event.confidence:.0%}",
        )
        self._zip.writestr(member(picture, packed=False), drawn)
        self._rows.append((recording, event, sound, picture))

    def close(self) -> None:
        """Write the table, in the order of the onsets, and close the archive."""
        file = io.BytesIO()
        table = CsvTable(file, more=MORE)
        places = {row[0].session_id: place for place, row in reversed([*enumerate(self._rows)])}
        for row in sorted(self._rows, key=lambda row: (places[row[0].session_id], row[1][0])):
            table.add_one(*row)
        self._zip.writestr(member(TABLE), file.getvalue())
        self._zip.close()
