"""``export_session_data``: write detections to a file in the requested format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import IO, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from actors.analytics.detection_source import Piece, Selected
from actors.analytics.formats.archive import Archive
from actors.analytics.formats.audacity import Audacity
from actors.analytics.formats.clips import Clips
from actors.analytics.formats.csv_table import CsvTable
from actors.analytics.formats.dcase import Dcase
from actors.analytics.formats.ndjson import NdJson
from actors.analytics.formats.parquet import Parquet
from actors.analytics.formats.raven import Raven
from actors.analytics.formats.rows import FormatWriter, Sink
from actors.analytics.formats.rttm import Rttm
from actors.execution import runner
from actors.execution.failures import Permanent, still_there
from actors.execution.lease import Lease
from actors.execution.progress import Bar
from actors.execution.runtime import Runtime
from actors.facts import export_formats
from actors.facts.noise_types import with_below
from actors.messaging.messages import ExportSessionData
from actors.science.audio_io import clips, decode
from actors.science.errors import RecordingError
from db.blobs.errors import BlobMissing
from db.blobs.keys import export_prefix
from db.queries import export_queries
from db.queries.export_queries import DetectionSelection, ExportDone
from db.queries.model_queries import JobWork
from db.queue import claims
from db.tables.exports import CLIP, Export

log = structlog.get_logger(__name__)

#: The writer of each format. Clips also need audio, see :func:`_write_clips`.
WRITERS: dict[str, Callable[[IO[bytes]], FormatWriter]] = {
    "csv": CsvTable,
    "ndjson": NdJson,
    "parquet": Parquet,
    "audacity": Audacity,
    "raven": Raven,
    "dcase": Dcase,
    "rttm": Rttm,
}
#: Upper bound of clips per export. Each takes a tenth of a second and a megabyte.
MOST_CLIPS = 1_000
#: Upper bound of files per archive. Their directory, about a kilobyte each, stays in memory.
MOST_FILES = 50_000


def export_session_data(runtime: Runtime, nudge: ExportSessionData) -> None:
    """Write the file of an export."""
    take = partial(claims.this, JobWork(job=Export, id=nudge.export_id))
    runner.run(runtime, nudge, take, partial(_export, runtime))


def _export(runtime: Runtime, work: JobWork) -> runner.Task:
    def perform(lease: Lease) -> runner.Result:
        with runtime.store.reading() as tx:
            row = still_there(export_queries.get_export(tx, work.id))
        bar = Bar(runtime, work, lease)
        bar.tell(0.0, "finding detections")
        asked = DetectionSelection.of(row)
        selection = replace(asked, noise_types=with_below(asked.noise_types))
        selected = Selected(runtime.store, selection, with_candidates=row.format == "ndjson")
        # A key per attempt: a worker that was considered dead writes to another one.
        key = lease.own(f"{export_prefix(work.id)}{lease.attempt}")
        with runtime.blobs.writer(key) as out:
            sink = Sink(out)
            file = cast(IO[bytes], sink)
            if row.format == CLIP:
                n_rows = _write_clip(runtime, file, selected)
            elif row.format == "clips":
                n_rows = _write_clips(runtime, file, selected, bar)
            else:
                n_rows = _write(_writer(row, file, selected), selected, bar)
        values = ExportDone(
            percent=100,
            stage="done",
            rows_written=n_rows,
            size_bytes=sink.size_bytes,
            blob_key=key,
        )
        return runner.Result(runner.move_on(work, to="completed", values=values))

    return runner.Task(name="export", work=work, perform=perform, give_up=runner.fail(work))


def _writer(row: Export, out: IO[bytes], selected: Selected) -> FormatWriter:
    """Return the writer of a format: an archive for several recordings in separate files."""
    make = WRITERS[row.format]
    if not export_formats.is_archive(row.format, is_single=row.session_id is not None):
        return make(out)
    if selected.n_sessions > MOST_FILES:
        raise Permanent(
            "too-many-files",
            f"the archive would have {selected.n_sessions} files, more than the limit of "
            f"{MOST_FILES}: select fewer sessions, or a format with a single file",
        )
    return Archive(out, make, extension=export_formats.FORMATS[row.format].extension)


def _write(writer: FormatWriter, selected: Selected, bar: Bar) -> int:
    """Write all detections; return their number."""
    n_rows = 0
    for piece in selected.pieces():
        writer.add(piece.recording, piece.events)
        n_rows += len(piece.events)
        bar.tell(piece.share, "writing")
    writer.close()
    return n_rows


def _write_clips(runtime: Runtime, out: IO[bytes], selected: Selected, bar: Bar) -> int:
    """Write all detections with their audio; return their number."""
    n_clips = selected.count_events(up_to=MOST_CLIPS)
    if n_clips > MOST_CLIPS:
        raise Permanent(
            "too-many-clips",
            f"the selection has more than {MOST_CLIPS} events, the limit for clips: select fewer, "
            "for instance with a higher 'min_confidence'",
        )
    writer = Clips(out)
    n_rows = 0

    def tell() -> None:
        bar.tell(n_rows / max(n_clips, 1), "cutting clips")

    for piece in selected.pieces():
        missing = set(range(len(piece.events)))
        try:
            for index, samples, rate_hz in _cut(runtime, piece):
                writer.add(piece.recording, piece.events[index], samples, rate_hz)
                missing.remove(index)
                n_rows += 1
                tell()
        except (BlobMissing, RecordingError) as error:
            # The detections are exported even without their audio.
            log.warning("clips_not_cut", error=type(error).__name__, events=len(missing))
        for index in missing:
            writer.add(piece.recording, piece.events[index], None, 0)
            n_rows += 1
        tell()
    writer.close()
    return n_rows


def _write_clip(runtime: Runtime, out: IO[bytes], selected: Selected) -> int:
    """Write the audio of the only detection; return 1."""
    with suppress(BlobMissing):
        for piece in selected.pieces():
            for _, samples, rate_hz in _cut(runtime, piece):
                if len(samples):
                    out.write(clips.to_flac(samples, rate_hz, used=piece.recording.used))
                    return 1
    raise Permanent("no-audio", "the recording is not stored, or ends before the detection")


def _cut(runtime: Runtime, piece: Piece) -> Iterator[tuple[int, NDArray[np.float32], int]]:
    """Yield the index, the samples and the rate of each detection's audio in one recording."""
    if not piece.events or piece.audio_key is None:
        return
    intervals = [(event.start_s, event.end_s) for event in piece.events]
    with runtime.blobs.open(piece.audio_key) as file, decode.open_recording(file) as decoder:
        for index, samples in clips.each(decoder, intervals):
            yield index, samples, decoder.format.rate_hz
