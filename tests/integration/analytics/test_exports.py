"""What exports contain."""

from __future__ import annotations

import csv
import io
import itertools
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from sqlalchemy import text

from actors.analytics import detection_source, export
from actors.execution.runtime import Runtime
from db.queries import session_queries
from db.tables.exports import EXPORT_FORMATS
from tests.benchmarks import exports
from tests.integration.analytics.exported import add, file_of, ids, left, made, rows_of
from tests.support import accounts, recordings
from tests.support.api import Api

pytestmark = pytest.mark.integration


def test_each_format_of_one_session_and_of_several(api: Api, runtime: Runtime) -> None:
    sound = recordings.encode(np.zeros(2 * recordings.RATE_HZ, np.float32))
    one, other = add(runtime, 0.0, 1.0, content=sound), add(runtime)
    kinds = {
        "csv": ("csv", "text/csv"),
        "ndjson": ("ndjson", "application/x-ndjson"),
        "parquet": ("parquet", "application/vnd.apache.parquet"),
        "audacity": ("txt", "text/plain"),
        "raven": ("selections.txt", "text/plain"),
        "dcase": ("txt", "text/plain"),
        "rttm": ("rttm", "text/plain"),
        "clips": ("zip", "application/zip"),
    }
    assert set(kinds) == set(EXPORT_FORMATS)
    for name, session_ids in itertools.product(kinds, ([one], [one, other])):
        done = made(api, runtime, format=name, session_ids=ids(*session_ids))
        assert (done["state"], done["rows_written"], done["percent"]) == ("completed", 2, 100)
        file = file_of(api, done)
        assert file.status_code == 200
        assert len(file.content) == done["size_bytes"]
        extension, media_type = kinds[name]
        if name in ("audacity", "raven") and len(session_ids) > 1:
            extension, media_type = "zip", "application/zip"
        assert file.headers["content-type"].partition(";")[0] == media_type
        said = f'attachment; filename="clamor-{done["id"]}.{extension}"'
        assert file.headers["content-disposition"] == said
        assert file.headers["content-length"] == str(done["size_bytes"])
        assert file.headers["x-content-type-options"] == "nosniff"
        if extension == "zip":
            with zipfile.ZipFile(io.BytesIO(file.content)) as found:
                assert found.testzip() is None
                assert len(found.namelist()) == (5 if name == "clips" else 2)


def test_an_archive_of_too_many_files_is_refused(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_FILES", 1)
    add(runtime, 1.0)
    assert made(api, runtime, format="raven")["state"] == "completed"
    add(runtime, 1.0)
    done = made(api, runtime, format="raven")
    assert (done["state"], done["problem"]["code"]) == ("failed", "too-many-files")
    assert made(api, runtime, format="rttm")["state"] == "completed"


def test_memory_does_not_grow_with_what_is_exported(database_url: str, tmp_path: Path) -> None:
    # `make bench-exports` measures a million detections; holding even this many would exceed the
    # bound.
    exports.fill(database_url, n_events=150_000)
    found = exports.measured(database_url, tmp_path, "parquet")
    assert found["rows"] == 150_000
    assert found["more_mb"] < 100


def test_events_come_in_pages_and_each_once(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_source, "PAGE_SESSIONS", 2)
    monkeypatch.setattr(detection_source, "PAGE_EVENTS", 3)
    wanted = []
    for n_events in (0, 2, 7, 3, 1, 1, 4, 0, 6):
        session_id = add(runtime, *map(float, range(n_events)))
        wanted += [(str(session_id), float(at)) for at in range(n_events)]
    done = made(api, runtime, format="parquet")
    assert done["rows_written"] == len(wanted)
    read = pyarrow.parquet.read_table(io.BytesIO(file_of(api, done).content))
    rows = zip(read.column("session_id"), read.column("start_s"), strict=True)
    assert [(one.as_py(), at.as_py()) for one, at in rows] == wanted


def test_a_selection_narrows_what_is_written(api: Api, runtime: Runtime) -> None:
    batch_id = uuid.uuid4()
    with runtime.store.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO batches (id, state, options, user_id) VALUES (:id, 'taken', '{}', :u)"
            ),
            {"id": batch_id, "u": accounts.TEAM},
        )
    old = add(runtime, 100.0, 400.0, created_at="2026-01-05T00:00:00Z")
    dog = add(runtime, 200.0, noise_type="dog_bark", batch_id=batch_id)
    failed = add(runtime, 300.0, state="failed")

    def seen(**asked: Any) -> set[tuple[str, str]]:
        rows = rows_of(api, made(api, runtime, **asked))
        return {(row["session_id"], row["start_s"]) for row in rows}

    of_old = {(str(old), "100.0"), (str(old), "400.0")}
    assert seen() == of_old | {(str(dog), "200.0")}
    assert seen(session_ids=ids(old)) == of_old
    assert seen(batch_id=str(batch_id)) == {(str(dog), "200.0")}
    assert seen(created_to="2026-01-06T00:00:00+01:00") == of_old
    assert seen(created_from="2026-01-06T00:00:00Z") == {(str(dog), "200.0")}
    assert seen(noise_types=["rain"]) == of_old
    assert seen(noise_types=["nature"]) == of_old | {(str(dog), "200.0")}
    assert seen(noise_types=["traffic"]) == set()
    assert seen(min_confidence=0.85) == {(str(old), "400.0")}
    assert seen(states=["failed"]) == {(str(failed), "300.0")}
    assert seen(batch_id=str(batch_id), noise_types=["rain"]) == set()


def test_a_group_stays_in_the_selection_as_it_was_asked_for(api: Api, runtime: Runtime) -> None:
    """The types below the groups outnumber the types that one export may name."""
    helicopter = add(runtime, 1.0, noise_type="helicopter")
    add(runtime, 2.0, noise_type="a_type_of_mine")
    groups = ["traffic", "human", "nature", "other"]
    done = made(api, runtime, noise_types=groups)
    assert done["selection"]["noise_types"] == groups
    (row,) = rows_of(api, done)
    assert row["session_id"] == str(helicopter)
    assert (row["noise_type"], row["group"], row["audioset_id"]) == (
        "helicopter",
        "traffic",
        "/m/09ct_",
    )


def test_clips_and_pictures_have_the_channel_that_was_analysed(api: Api, runtime: Runtime) -> None:
    rate_hz = recordings.RATE_HZ
    sound = recordings.demo()[: 3 * rate_hz]
    alone = add(runtime, 1.0, content=recordings.encode(sound, container="WAV"))
    ninth = recordings.encode(recordings.on_channel(9, sound), container="WAV")
    add(runtime, 1.0, content=ninth, totals={"used": [8]})
    done = made(api, runtime, format="clips")
    with zipfile.ZipFile(io.BytesIO(file_of(api, done).content)) as found:
        rows = list(csv.DictReader(io.TextIOWrapper(found.open("events.csv"), newline="")))
        assert [row["session_id"] == str(alone) for row in rows] == [True, False]
        pictures = [found.read(row["picture"]) for row in rows]
        assert pictures[0] == pictures[1]
        heard, _ = soundfile.read(io.BytesIO(found.read(rows[1]["clip"])), dtype="float32")
        np.testing.assert_allclose(heard[:, 0], sound[rate_hz // 2 : 2 * rate_hz], atol=1e-4)
        assert not heard[:, 1:].any()


def test_clips_are_cut_of_what_is_stored(
    api: Api, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate_hz = recordings.RATE_HZ
    samples = recordings.demo()[: 10 * rate_hz]
    session_id = add(runtime, 1.0, 9.8, content=recordings.encode(samples))
    gone = add(runtime, 3.0)
    with runtime.store.transaction() as tx:
        row = session_queries.get_session(tx, gone)
        assert row is not None
    runtime.blobs.delete(row.recording_key)
    broken = add(runtime, 4.0, content=b"no recording at all")
    done = made(api, runtime, format="clips")
    assert (done["state"], done["rows_written"]) == ("completed", 4), done["problem"]
    with zipfile.ZipFile(io.BytesIO(file_of(api, done).content)) as found:
        rows = list(csv.DictReader(io.TextIOWrapper(found.open("events.csv"), newline="")))
        assert [row["session_id"] for row in rows] == ids(session_id, session_id, gone, broken)
        assert [row["clip"] == "" for row in rows] == [False, False, True, True]
        heard, _ = soundfile.read(io.BytesIO(found.read(rows[0]["clip"])), dtype="float32")
        np.testing.assert_allclose(heard, samples[rate_hz // 2 : 2 * rate_hz], atol=1e-4)
        # The recording ends less than a second after the detection.
        last, _ = soundfile.read(io.BytesIO(found.read(rows[1]["clip"])))
        assert len(last) == len(samples) - round(9.3 * rate_hz)
    monkeypatch.setattr(export, "MOST_CLIPS", 3)
    done = made(api, runtime, format="clips")
    assert (done["state"], done["problem"]["code"]) == ("failed", "too-many-clips")
    refused = file_of(api, done)
    assert (refused.status_code, refused.json["type"]) == (409, "/problems/export-not-done")
    assert "more than 3 events" in refused.json["detail"]
    assert done["id"] not in left(runtime)
