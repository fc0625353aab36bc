"""Each export format, read back, matches what was written.

RTTM is read by code in this file, following the field list of the RT-09 evaluation plan: the tools
that read it would require a diarisation system.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.analytics import export
from actors.analytics.formats import parquet
from actors.analytics.formats.archive import Archive
from actors.analytics.formats.audacity import Audacity
from actors.analytics.formats.clips import Clips
from actors.analytics.formats.csv_table import COLUMNS, CsvTable, safe
from actors.analytics.formats.dcase import Dcase
from actors.analytics.formats.ndjson import NdJson
from actors.analytics.formats.parquet import Parquet
from actors.analytics.formats.raven import Raven
from actors.analytics.formats.rows import ExportedRecording, Sink, cell
from actors.analytics.formats.rttm import Rttm
from actors.facts import export_formats
from actors.science.audio_io import clips
from db.queries.export_queries import ExportedEvent
from db.tables.exports import EXPORT_FORMATS
from services.api.exports.schemas import Format
from tests.support.exported import DOG, RAIN, Rows, one, written

#: Possible file names of clients and noise types of users' models: any text except U+0000, which
#: Postgres does not store.
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)
ODD = [
    "=1+1",
    "-2",
    "@x",
    "+y",
    "'quoted",
    'a "b" c',
    "tab\there",
    "two\r\nlines",
    "a,b;c",
    "ÄÖ 犬.wav",
    "\uff1dwide",
    " space ",
    "%20",
    ";;comment",
    "<NA>",
    "\u2028x",
    "../../etc/passwd",
]
#: Group and AudioSet class of some types.
TABLE = {"dog_bark": ("nature", "/m/0bt9lr"), "siren_sweep": ("other", None)}
NAMES = st.one_of(st.sampled_from(ODD), TEXTS)
LEVELS = st.none() | st.floats(-120, 140)
#: Null for sessions processed before they were measured.
MORE_LEVELS = (
    "lae_db",
    "lasmax_db",
    "lcpeak_db",
    "background_la90_db",
    "emergence_db",
    "above_background_s",
)


@st.composite
def some_rows(draw: Any) -> list[tuple[ExportedRecording, list[ExportedEvent]]]:
    found = []
    for _ in range(draw(st.integers(0, 3))):
        recording = ExportedRecording(
            session_id=draw(st.uuids()),
            file_name=draw(NAMES),
            recorded_at=draw(st.none() | st.just(datetime(2026, 3, 1, 2, 3, 4, 5, tzinfo=UTC))),
            rate_hz=draw(st.none() | st.just(44_100)),
            used=(),
            level_reference=draw(st.sampled_from(["dBFS", "dB SPL"])),
        )
        events, at_s = [], 0.0
        for index in range(draw(st.integers(0, 4))):
            start_s = at_s + draw(st.floats(0, 1e5))
            at_s = start_s + draw(st.floats(0.1, 60))
            events.append(
                ExportedEvent(
                    index,
                    start_s,
                    at_s,
                    draw(st.sampled_from(sorted(TABLE)) | NAMES),
                    draw(st.floats(0, 1)),
                    draw(LEVELS),
                    draw(LEVELS),
                    overloaded=draw(st.none() | st.booleans()),
                    **{name: draw(LEVELS) for name in MORE_LEVELS},
                    candidates=[{"noise_type": "rain", "score": 0.5}],
                )
            )
        found.append((recording, events))
    return found


many = settings(max_examples=30, suppress_health_check=list(HealthCheck))


def flat(rows: Rows, *, text: Callable[[str], str] = str) -> list[dict[str, Any]]:
    return [
        {
            "session_id": str(recording.session_id),
            "file_name": text(recording.file_name),
            "recorded_at": recording.recorded_at,
            "event_index": event.event_index,
            "start_s": event.start_s,
            "end_s": event.end_s,
            "noise_type": text(event.noise_type),
            "confidence": event.confidence,
            "laeq_db": event.laeq_db,
            "lafmax_db": event.lafmax_db,
            "level_reference": recording.level_reference,
            **dict(
                zip(
                    ("group", "audioset_id"), TABLE.get(event.noise_type, (None, None)), strict=True
                )
            ),
            **{name: getattr(event, name) for name in MORE_LEVELS},
            "overloaded": event.overloaded,
        }
        for recording, events in rows
        for event in events
    ]


def test_every_format_is_known_everywhere() -> None:
    assert set(EXPORT_FORMATS) == set(Format.__args__)  # type: ignore[attr-defined]
    assert set(EXPORT_FORMATS) == set(export_formats.FORMATS)
    assert set(EXPORT_FORMATS) == set(export.WRITERS) | {"clips"}


# --- tables ------------------------------------------------------------------------------------


@given(some_rows())
@many
def test_parquet_is_read_by_arrow(rows: Rows) -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(written(Parquet, rows)))
    assert table.to_pylist() == flat(rows)
    assert table.schema.equals(parquet.SCHEMA)
    assert table.schema.field("start_s").metadata[b"unit"] == b"s"
    assert table.schema.metadata[b"clamor.schema"] == b"1"


def test_parquet_has_groups_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1_000)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 300)
    events = [DOG._replace(event_index=index) for index in range(3_500)]
    out = io.BytesIO()
    writer = Parquet(Sink(out))  # type: ignore[arg-type]
    ((recording, _),) = one()
    writer.add(recording, events)
    # Row groups are written once they are full, not at the end.
    assert out.tell() > 3 * 1_000
    writer.close()
    file = pyarrow.parquet.ParquetFile(out)
    groups = [file.metadata.row_group(each).num_rows for each in range(file.num_row_groups)]
    assert (sum(groups), max(groups) <= 1_000) == (3_500, True)
    assert file.read().column("event_index").to_pylist() == list(range(3_500))


@given(some_rows())
@many
def test_csv_is_read_by_arrow_and_by_python(rows: Rows) -> None:
    data = written(CsvTable, rows)
    wanted = flat(rows, text=safe)
    read = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [(row["file_name"], row["noise_type"]) for row in read] == [
        (row["file_name"], row["noise_type"]) for row in wanted
    ]
    for row in wanted:
        # An empty cell, which readers return as an empty text.
        row |= {name: row[name] or "" for name in ("group", "audioset_id")}
    texts = ("session_id", "file_name", "noise_type", "group", "audioset_id")
    types = {name: pyarrow.string() for name in texts}
    types |= {name: pyarrow.float64() for name in ("start_s", "end_s", "confidence")}
    types |= {name: pyarrow.float64() for name in ("laeq_db", "lafmax_db", *MORE_LEVELS)}
    table = pyarrow.csv.read_csv(
        io.BytesIO(data),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types
            | {
                "recorded_at": pyarrow.timestamp("us", tz="UTC"),
                "level_reference": pyarrow.string(),
            },
            strings_can_be_null=False,
        ),
    )
    assert tuple(table.column_names) == COLUMNS
    assert table.to_pylist() == wanted
    # One line a row, each terminated as in RFC 4180.
    assert data.endswith(b"\r\n")
    assert data.startswith(",".join(COLUMNS).encode() + b"\r\n")


@given(TEXTS | st.sampled_from(ODD))
def test_no_cell_of_a_csv_is_a_formula_and_each_can_be_undone(text: str) -> None:
    made = safe(text)
    assert not made.startswith(("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20"))
    assert (made[1:] if made.startswith("'") else made) == text


@given(some_rows())
@many
def test_ndjson_is_read_by_arrow_and_by_python(rows: Rows) -> None:
    data = written(NdJson, rows)
    wanted = flat(rows)
    lines = [json.loads(line) for line in data.split(b"\n") if line]
    assert [line.pop("candidates") for line in lines] == [
        [{"noise_type": "rain", "score": 0.5}]
    ] * len(wanted)
    for row in wanted:
        at = row["recorded_at"]
        row["recorded_at"] = at and msgspec.to_builtins(at)
    assert lines == wanted
    if wanted:
        table = pyarrow.json.read_json(io.BytesIO(data))
        assert table.num_rows == len(wanted)
        assert table.column("start_s").to_pylist() == [row["start_s"] for row in wanted]
        assert table.column("file_name").to_pylist() == [row["file_name"] for row in wanted]


# --- labels ------------------------------------------------------------------------------------


def lines_of(data: bytes) -> list[list[str]]:
    """Return the cells of an unquoted table; no text may add lines or cells."""
    text = data.decode()
    assert not re.search(r"[\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029\"]", text)
    return [line.split("\t") for line in text.splitlines()]


@given(some_rows())
@many
def test_audacity_has_a_line_an_event(rows: Rows) -> None:
    for each in rows:
        read = lines_of(written(Audacity, [each]))
        assert [label for _, _, label in read] == [cell(event.noise_type) for event in each[1]]
        assert [float(time_s) for *times, _ in read for time_s in times] == [
            pytest.approx(time_s, abs=1e-6)
            for event in each[1]
            for time_s in (event.start_s, event.end_s)
        ]


@given(some_rows())
@many
def test_raven_has_a_line_an_event(rows: Rows) -> None:
    for recording, events in rows:
        header, *read = lines_of(written(Raven, [(recording, events)]))
        found = [dict(zip(header, line, strict=True)) for line in read]
        assert [(row["Selection"], row["Begin File"], row["Annotation"]) for row in found] == [
            (str(place), cell(recording.file_name), cell(event.noise_type))
            for place, event in enumerate(events, 1)
        ]


def test_raven_has_the_group_and_the_audioset_class() -> None:
    mine = RAIN._replace(noise_type="a_type_of_mine")
    header, *lines = lines_of(written(Raven, one(DOG, mine)))
    found = [dict(zip(header, line, strict=True)) for line in lines]
    assert [(row["Group"], row["AudioSet ID"]) for row in found] == [
        ("nature", "/m/0bt9lr"),
        ("", ""),
    ]


@given(some_rows())
@many
def test_dcase_has_a_line_an_event(rows: Rows) -> None:
    read = lines_of(written(Dcase, rows))
    assert [line[3] for line in read if len(line) > 1] == [
        cell(event.noise_type) for _, events in rows for event in events
    ]
    assert len(read) == sum(max(len(events), 1) for _, events in rows)
    assert len({line[0] for line in read}) == len(rows)


def read_rttm(data: bytes) -> list[dict[str, str]]:
    """Parse RTTM by its specification: ten fields split at white space; ``;;`` starts a comment."""
    names = ("type", "file", "chnl", "tbeg", "tdur", "ortho", "stype", "name", "conf", "slat")
    lines = [line for line in data.decode().split("\n") if line and not line.startswith(";;")]
    found = [dict(zip(names, line.split(), strict=True)) for line in lines]
    for each in found:
        assert (each["type"], each["chnl"]) == ("SPEAKER", "1")
        assert (each["ortho"], each["stype"], each["slat"]) == ("<NA>", "<NA>", "<NA>")
        assert float(each["tbeg"]) >= 0
        assert float(each["tdur"]) > 0
        assert 0 <= float(each["conf"]) <= 1
    return found


@given(some_rows())
@many
def test_rttm_is_what_its_description_says(rows: Rows) -> None:
    read = read_rttm(written(Rttm, rows))
    events = [event for _, of_one in rows for event in of_one]
    assert [unquote(line["name"]) for line in read] == [event.noise_type for event in events]
    assert [float(line["tbeg"]) for line in read] == [
        pytest.approx(event.start_s, abs=1e-6) for event in events
    ]
    assert [float(line["tdur"]) for line in read] == [
        pytest.approx(event.end_s - event.start_s, abs=2e-6) for event in events
    ]
    assert len({line["file"] for line in read}) == sum(1 for _, of_one in rows if of_one)


# --- archives ----------------------------------------------------------------------------------


@given(some_rows())
@many
def test_an_archive_has_a_file_for_each_recording_below_one_folder(rows: Rows) -> None:
    data = written(lambda out: Archive(out, Audacity, extension="txt"), rows)
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        names = found.namelist()
        assert len(names) == len(set(names)) == len(rows)
        for name, (recording, events) in zip(names, rows, strict=True):
            assert not re.search(r"[/\\:\x00-\x1f]", name)
            assert not name.startswith(".")
            assert name.endswith(f"-{recording.session_id}.txt")
            assert found.read(name) == written(Audacity, [(recording, events)])


def test_clips_have_their_sound_a_picture_and_a_row(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = Clips(Sink(out))  # type: ignore[arg-type]
    ((recording, _),) = one(file_name="=../a b.wav")
    rate_hz = 22_050
    tone = np.sin(np.arange(2 * rate_hz) * 0.2).astype(np.float32)[:, None] / 2
    # In the order of their ends, as they come out of the decoder.
    writer.add(recording, RAIN, None, 0)
    writer.add(recording, DOG, tone, rate_hz)
    writer.close()
    with zipfile.ZipFile(out) as found:
        assert found.testzip() is None
        rows = list(csv.DictReader(io.TextIOWrapper(found.open("events.csv"), newline="")))
        assert [row["noise_type"] for row in rows] == ["dog_bark", "rain"]
        assert [row["audioset_id"] for row in rows] == ["/m/0bt9lr", "/m/06mb1"]
        assert (rows[1]["clip"], rows[1]["picture"]) == ("", "")
        dog = rows[0]
        assert set(found.namelist()) == {"events.csv", dog["clip"], dog["picture"]}
        assert re.fullmatch(r"clips/[^/]+-00000-dog_bark\.flac", dog["clip"])
        samples, rate = soundfile.read(io.BytesIO(found.read(dog["clip"])), always_2d=True)
        assert rate == rate_hz
        np.testing.assert_allclose(samples, tone, atol=2**-22)
        assert found.read(dog["picture"]).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_rate_that_flac_does_not_know_is_halved() -> None:
    tone = np.sin(np.arange(76_800) * 0.01).astype(np.float32)[:, None] / 2
    clip = clips.to_flac(tone, 768_000, used=())
    samples, rate_hz = soundfile.read(io.BytesIO(clip), always_2d=True)
    assert (rate_hz, len(samples)) == (384_000, 38_400)
    np.testing.assert_allclose(samples[500:-500], tone[1000:-1000:2], atol=1e-3)
