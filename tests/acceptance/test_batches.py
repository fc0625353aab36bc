"""Batches by the command line, over real processes: outcomes, exit codes, and a killed worker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from db.blobs.blob_store import Blobs
from db.settings import Settings
from tests.support import recordings
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance


def clamor(*arguments: object) -> tuple[int, str]:
    """Run a command; return its exit code and its output."""
    run = subprocess.run(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_a_batch_by_the_command_line(rabbit_settings: Settings, tmp_path: Path) -> None:
    clip = recordings.encode(recordings.demo()[: 3 * recordings.RATE_HZ])
    good = [recordings.write(tmp_path / f"good-{i}.flac", clip) for i in range(3)]
    bad = recordings.write(tmp_path / "bad.txt", b"this is no recording")
    blobs = Blobs(rabbit_settings.blob_url)
    for index in range(60):
        blobs.put(f"inbox/monday/{index:02d}.flac", clip)
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        doomed = cluster.worker()
        code, text = clamor("batch", *good, "--api", client.url, "--priority", "high")
        assert code == 0, text
        assert "3 of 3 files" in text
        assert "9.0 s" in text
        code, text = clamor("batch", *good, bad, "--api", client.url)
        assert code == 1, text
        assert "3 of 4 files" in text
        assert "refused" in text

        # More than a page; the worker dies in the middle of it.
        batch = client.name_batch("inbox/monday", options={})
        eventually(lambda: client.batch(batch.id).files.get("completed", 0) > 2, what="some files")
        doomed.kill()
        cluster.worker()
        ended = client.wait_for_batch(batch, on_change=lambda _batch: None)
        assert (ended.state, ended.files) == ("finished", {"completed": 60})
        assert len({item.session_id for item in client.batch_items(batch.id)}) == 60
