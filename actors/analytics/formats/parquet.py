"""Parquet, in row groups of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from actors.analytics.formats.rows import ExportedRecording, Taxonomy
from db.queries.export_queries import ExportedEvent

#: Rows per group. Larger groups are read a little faster, but each is held in memory once.
GROUP_ROWS = 32_768
#: Rows held as Python objects, which take ten times the memory.
BATCH_ROWS = 4_096


def _field(name: str, kind: Any, *, unit: str | None = None, nullable: bool = False) -> Any:
    return pa.field(
        name, kind, nullable=nullable, metadata=None if unit is None else {"unit": unit}
    )


SCHEMA = pa.schema(
    [
        _field("session_id", pa.string()),
        _field("file_name", pa.string()),
        _field("recorded_at", pa.timestamp("us", tz="UTC"), nullable=True),
        _field("event_index", pa.int32()),
        _field("start_s", pa.float64(), unit="s"),
        _field("end_s", pa.float64(), unit="s"),
        _field("noise_type", pa.string()),
        _field("confidence", pa.float64(), unit="1"),
        _field("laeq_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("lafmax_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("level_reference", pa.string()),
        _field("group", pa.string(), nullable=True),
        _field("audioset_id", pa.string(), nullable=True),
        _field("lae_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("lasmax_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("lcpeak_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("background_la90_db", pa.float64(), unit="dB re level_reference", nullable=True),
        _field("emergence_db", pa.float64(), unit="dB", nullable=True),
        _field("above_background_s", pa.float64(), unit="s", nullable=True),
        _field("overloaded", pa.bool_(), nullable=True),
    ],
    metadata={"clamor.schema": "1", "clamor.content": "noise events"},
)


class Parquet:
    """One row per detection."""

    def __init__(self, out: IO[bytes]) -> None:
        self._writer = pq.ParquetWriter(out, SCHEMA, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[Any] = []
        self._n_rows = 0

    def add(self, recording: ExportedRecording, events: Sequence[ExportedEvent]) -> None:
        session_id = str(recording.session_id)
        for event in events:
            self._rows.append(
                (
                    session_id,
                    recording.file_name,
                    recording.recorded_at,
                    event.event_index,
                    event.start_s,
                    event.end_s,
                    event.noise_type,
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
                    event.overloaded,
                )
            )
            if len(self._rows) == BATCH_ROWS:
                self._pack()

    def close(self) -> None:
        self._pack()
        self._flush()
        self._writer.close()

    def _pack(self) -> None:
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)
        ]
        self._batches.append(pa.record_batch(arrays, schema=SCHEMA))
        self._n_rows += len(self._rows)
        self._rows.clear()
        if self._n_rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, SCHEMA)
            self._writer.write_table(table, row_group_size=GROUP_ROWS)
            self._batches.clear()
            self._n_rows = 0
