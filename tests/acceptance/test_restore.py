"""A dump of a running system is restored, while recordings are posted and processed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.execution.runtime import Runtime
from actors.messaging import broker
from actors.messaging.messages import CleanUp, CleanUpFailedSessions, CleanUpOldSessions
from db.blobs.blob_store import Blobs
from db.blobs.keys import OWNER, recording_key
from db.ownership import TAKE_OVER
from db.settings import Settings
from services.client import Client
from services.client.wire.sessions import Session
from tests.support import dumps, recordings
from tests.support.clock import ask, findings, pass_days
from tests.support.cluster import Cluster, eventually

pytestmark = pytest.mark.acceptance

TEAM = "team@example.org"


def clamor(cluster: Cluster, *arguments: str, exit_code: int = 0, **env: str) -> tuple[str, str]:
    """Run a command on an installation to its end; return its output and its messages."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | cluster.env | env,
    )
    assert ended.returncode == exit_code, ended.stdout + ended.stderr
    return ended.stdout, ended.stderr


def post_stream(client: Client, files: list[Path], posted: list[Session]) -> None:
    for file in files:
        posted.append(client.upload(file))


def nights(runtime: Runtime) -> None:
    """Run the nightly jobs, and again eight days later."""
    for _ in range(2):
        for nudge in (CleanUp(), CleanUpFailedSessions(), CleanUpOldSessions()):
            done = ask(runtime, nudge)
            assert done.state == "completed", done.problem
            assert not findings(done).get("orphans")
        pass_days(runtime, 8)


def test_a_dump_of_a_running_system_loses_no_recording(
    rabbit_settings: Settings,
    postgres_url: str,
    drop_later: Callable[[str], None],
    tmp_path: Path,
) -> None:
    short = recordings.write(tmp_path / "a.flac", recordings.encode(recordings.demo()))
    long = recordings.write(tmp_path / "b.flac", recordings.encode(recordings.long(5)))
    files = [short, long, short, short, long, short, short, short]
    blobs = Blobs(rabbit_settings.blob_url)
    posted: list[Session] = []
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        eventually(lambda: OWNER in blobs.keys(""), what="the first health check")
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(post_stream, client, files, posted)
            eventually(lambda: len(posted) >= 3, what="the middle of the stream")
            dumped = dumps.dump(rabbit_settings.database_url, tmp_path / "dump")
            stream.result()
        # One more is surely not in the dump. All that are end, and lose their decoded audio.
        posted.append(client.upload(short))
        eventually(
            lambda: all(client.session(each.id).finished for each in posted),
            timeout_s=240,
            what="the end of all sessions",
        )
        eventually(lambda: not [key for key in blobs.keys("sessions/") if "pcm" in key])
        wanted = client.detections(posted[-1].id)
        assert wanted
        worker.kill()

    url = dumps.restore(dumped, server_url=postgres_url)
    settings = replace(rabbit_settings, database_url=url)
    (tmp_path / "restored").mkdir()
    with Cluster(settings, tmp_path / "restored") as cluster:
        cluster.worker()
        clamor(cluster, "schedule", "run", "health_check")
        assert "restored" in " ".join(clamor(cluster, "health", exit_code=1)[0].split())
        adopt = ("restore", "check", "--adopt", "--user", TEAM, "--json")
        assert TAKE_OVER in clamor(cluster, *adopt, exit_code=2)[1]
        clamor(cluster, *TAKE_OVER.split()[1:])
        found: Any = json.loads(clamor(cluster, *adopt, CLAMOR_ORPHAN_S="0.001")[0])
        assert 1 <= found["adopted"] <= len(posted) - 3
        assert found["sessions"] + found["adopted"] == len(posted)
        with cluster.api() as client:
            eventually(
                lambda: all(client.session(each.id).finished for each in posted),
                timeout_s=240,
                what="the end of all restored sessions",
            )
            ended = [client.session(each.id) for each in posted]
            assert {each.state for each in ended} == {"completed"}
            assert client.detections(posted[-1].id) == wanted
        clamor(cluster, "restore", "check")
    made = Runtime(replace(settings, orphan_s=0.001), broker.setup(settings))
    nights(made)
    made.close()
    drop_later(url)
    stored = {*blobs.keys("sessions/")}
    for each, file in zip(posted, [*files, short], strict=True):
        assert recording_key(each.id) in stored
        assert blobs.get(recording_key(each.id)) == file.read_bytes()
