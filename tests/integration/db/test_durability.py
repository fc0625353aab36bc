"""Blobs in a folder are on disk before the rows that name them are committed."""

from __future__ import annotations

import json
import threading
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from actors.execution.runtime import Runtime
from actors.messaging.messages import CleanUpOldSessions
from actors.recovery import take_stalled
from db.blobs.blob_store import Blobs
from db.settings import Settings
from tests.support import labelled, recordings
from tests.support.api import Api
from tests.support.clock import ask
from tests.support.disk import Disk
from tests.support.pipeline import age_ends, handle

pytestmark = pytest.mark.integration

DEMO = recordings.encode(recordings.demo())
RAW = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "blobs", monkeypatch)


@pytest.fixture
def memory_settings(disk: Disk, memory_settings: Settings) -> Settings:
    """Depend on the disk: it must watch the folder before a worker writes there."""
    assert memory_settings.blob_url == disk.root.as_uri()
    return memory_settings


@contextmanager
def power_may_fail_at_each_commit(
    disk: Disk, *, behind: Container[str] = ()
) -> Iterator[list[str]]:
    """Collect the finished files that a power failure would lose right before a commit.

    Commits of the thread of leases are ignored: it commits while a file is flushed, and names none.
    So does a commit of progress while the blobs of ``behind`` are stored by another thread.
    """
    lost: list[str] = []

    def look(_connection: object) -> None:
        if threading.current_thread() is threading.main_thread():
            lost.extend(key for key in disk.lost() if key not in behind)

    event.listen(Engine, "commit", look)
    try:
        yield lost
    finally:
        event.remove(Engine, "commit", look)


def work(runtime: Runtime) -> None:
    """Handle every nudge until no work item is due."""
    for _ in range(40):
        with runtime.store.transaction() as tx:
            found = take_stalled(tx, unnudged_s=0, limit=100)
        if not found:
            return
        for nudge in found:
            handle(runtime, nudge)
    raise AssertionError("rows go on asking for work")


def test_no_row_is_committed_before_its_blob_is_on_disk(
    disk: Disk, admin: Api, runtime: Runtime
) -> None:
    """Uploads, batch files, forms, copies from the inbox, and everything that workers write."""
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    runtime.blobs.put("inbox/a.flac", DEMO)
    manifest, clips = labelled.clips()
    training, training_headers = labelled.form(
        {"manifest": manifest, "options": json.dumps({"name": "x", "algorithm": "lda"})}, clips
    )
    with power_may_fail_at_each_commit(disk, behind=runtime.blobs._behind) as lost:
        answers = [
            admin.simulate_post("/v1/sessions", body=DEMO, headers=RAW),
            admin.simulate_post(
                "/v1/batches",
                body=form + DEMO + b"\r\n--x--\r\n",
                headers={"Content-Type": "multipart/form-data; boundary=x"},
            ),
            admin.simulate_post("/v1/batches", json={"keys": ["inbox/a.flac"]}),
            admin.simulate_post("/v1/models", body=training, headers=training_headers),
        ]
        work(runtime)
        answers.append(admin.simulate_post("/v1/exports", json={"format": "csv"}))
        answers.append(
            admin.simulate_post("/v1/reports", json={"day": "2024-05-06", "time_zone": "UTC"})
        )
        work(runtime)
        runtime.settings = replace(runtime.settings, one_claim_s=Settings.one_claim_s)
        answers.append(admin.simulate_post("/v1/sessions", body=DEMO, headers=RAW))
        work(runtime)
        with runtime.store.transaction() as tx:
            age_ends(tx, days=40)
        assert ask(runtime, CleanUpOldSessions(), keep_best=1).state == "completed"
    assert [each.status_code for each in answers] == [202] * 7
    assert lost == []
    made = {Path(key).name.rpartition("-")[0] or Path(key).parts[0] for key in written(disk)}
    assert made >= {"pcm.zst", "levels", "levels-answer", "spectrogram", "model", "exports"}
    assert {key.split("/")[0] for key in runtime.blobs.keys("")} >= {
        "inbox",
        "trainings",
        "models",
        "exports",
        "reports",
        "clips",
    }


def written(disk: Disk) -> list[str]:
    """Return the keys of all files ever finished."""
    return [str(path.relative_to(disk.root)) for path in disk.finished]


def test_what_is_not_flushed_is_found_at_the_commit(
    disk: Disk, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the test above can fail."""

    def unflushed(_self: Blobs, key: str, content: Iterable[bytes]) -> None:
        path = disk.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(content))

    monkeypatch.setattr(Blobs, "put", unflushed)
    with power_may_fail_at_each_commit(disk) as lost:
        assert admin.simulate_post("/v1/sessions", body=DEMO, headers=RAW).status_code == 202
    assert any(key.endswith("/recording") for key in lost)
