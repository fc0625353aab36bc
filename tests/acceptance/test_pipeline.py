"""Clamor's own processes over real servers: the results are the same despite any fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text

from actors.messaging import broker, messages
from db.settings import Settings
from db.store import Store
from services.client import Client
from tests.support import recordings
from tests.support.cluster import Cluster, Process, eventually

pytestmark = pytest.mark.acceptance


def clamor(*arguments: object, exit_code: int = 0) -> str:
    """Run a command to its end; return its standard output."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == exit_code, ended.stderr
    return ended.stdout


def detections(client: Client, file: Path) -> list[Any]:
    session = client.wait(client.upload(file))
    assert session.state == "completed", session
    return without_ids(client.detections(session.id))


def without_ids(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Return detections without their IDs, which are those of the session."""
    return [
        {name: value for name, value in msgspec.to_builtins(each).items() if name != "id"}
        for each in found
    ]


def test_standalone_and_cluster_give_the_same_answer(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    files = [
        recordings.write(tmp_path / "demo.flac", recordings.encode(recordings.demo())),
        recordings.write(tmp_path / "long.flac", recordings.encode(recordings.long(2.2))),
        recordings.write(
            tmp_path / "b.ogg",
            recordings.encode(recordings.demo(3), container="OGG", subtype="VORBIS"),
        ),
    ]
    alone = json.loads(clamor("process", *files, "--json", "--home", tmp_path / "home"))
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        cluster.worker()
        cluster.worker()
        together = json.loads(clamor("process", *files, "--json", "--api", client.url))
    assert [entry["file"] for entry in alone] == [str(file) for file in files]
    for one, other in zip(alone, together, strict=True):
        assert one["session"]["state"] == other["session"]["state"] == "completed"
        assert one["detections"]
        assert without_ids(one["detections"]) == without_ids(other["detections"])
        assert one["session"]["summary"] == other["session"]["summary"]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_ten_minutes(
    rabbit_settings: Settings, store: Store, tmp_path: Path
) -> None:
    """kill -9 while spans are being processed, then a new worker: complete, no detection twice."""
    file = recordings.write(tmp_path / "10.flac", recordings.encode(recordings.long(10)))
    settings = replace(rabbit_settings, one_claim_s=0.0)
    with Cluster(settings, tmp_path) as cluster, cluster.api() as client:
        quiet = cluster.worker()
        wanted = detections(client, file)
        assert wanted
        quiet.stop()

        doomed = cluster.worker()
        session = client.upload(file)
        eventually(
            lambda: 1 <= client.session(session.id).spans_finished <= 8,
            what="the middle of the recording",
        )
        doomed.kill()
        assert not client.session(session.id).finished
        cluster.worker()
        finished = client.wait(session)
        assert finished.state == "completed"
        assert finished.spans_finished == finished.spans_total == 10
        assert without_ids(client.detections(session.id)) == wanted
    with store.transaction() as tx:
        aggregated = tx.execute(
            text(
                "SELECT count(*) FROM processing_metrics"
                " WHERE session_id = :id AND step = 'aggregate' AND result = 'done'"
            ),
            {"id": session.id},
        ).scalar_one()
    assert aggregated == 1


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_one_claim(
    rabbit_settings: Settings, store: Store, tmp_path: Path
) -> None:
    """kill -9, then a new worker, which splits the recording: the same answer, stored once."""
    file = recordings.write(tmp_path / "10.flac", recordings.encode(recordings.long(10)))
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        doomed = cluster.worker()
        wanted = detections(client, file)
        assert wanted
        session = client.upload(file)
        eventually(lambda: client.session(session.id).percent > 1, what="some progress")
        assert client.session(session.id).state == "queued"
        doomed.kill()
        cluster.worker()
        finished = client.wait(session)
        assert (finished.state, finished.spans_finished) == ("completed", 10)
        assert without_ids(client.detections(session.id)) == wanted
    with store.transaction() as tx:
        runs = tx.execute(
            text(
                "SELECT step, attempt, count(*) FROM processing_metrics"
                " WHERE session_id = :id AND step IN ('process', 'aggregate') GROUP BY 1, 2"
            ),
            {"id": session.id},
        ).all()
    assert sorted(runs) == [("aggregate", 1, 1), ("process", 2, 1)]


@pytest.mark.slow
def test_purged_queues_lose_nothing(rabbit_settings: Settings, tmp_path: Path) -> None:
    """Every message is lost before a worker sees it: recovery finds the rows."""
    file = recordings.write(tmp_path / "a.flac", recordings.encode(recordings.demo()))
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        rabbit: Any = broker.setup(rabbit_settings)
        queue = messages.queue_name(messages.ProcessAudioFile, prefix=rabbit_settings.queue_prefix)
        rabbit.declare_queue(queue, ensure=True)
        session = client.upload(file)

        def lose_the_message() -> bool:
            return bool(rabbit.channel.queue_purge(queue).method.message_count)

        eventually(lose_the_message, timeout_s=20, what="a message to lose")
        rabbit.close()
        cluster.worker()
        assert client.wait(session).state == "completed"


def test_cancel_ends_a_running_session(rabbit_settings: Settings, tmp_path: Path) -> None:
    file = recordings.write(tmp_path / "10.flac", recordings.encode(recordings.long(10)))
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        session = client.upload(file)
        eventually(lambda: client.session(session.id).percent > 1, what="some progress")
        assert client.cancel(session.id).state == "cancelled"
        # The worker continues with the next recording.
        other = recordings.write(tmp_path / "a.flac", recordings.encode(recordings.demo()))
        assert detections(client, other)
        assert client.session(session.id).state == "cancelled"
        assert client.detections(session.id) == []
        assert_stops_well(worker)


def assert_stops_well(worker: Process) -> None:
    """Check that SIGTERM ends a worker within Kubernetes' grace period."""
    assert worker.stop(timeout_s=30) == 0


#: The size of 35 more minutes of samples, if held in memory: 16 kHz, 32 bits.
HELD_BYTES = 35 * 60 * 16_000 * 4


# Half a minute on an idle machine, ten times that on a busy one.
@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps a process's peak")
def test_a_workers_memory_does_not_grow_with_the_recording(
    rabbit_settings: Settings, tmp_path: Path
) -> None:
    """The first two load libraries and fill the allocator's pools: one in a single claim, and one
    in spans, whose decoded audio is compressed.
    """
    with Cluster(rabbit_settings, tmp_path) as cluster, cluster.api() as client:
        worker = cluster.worker()
        peaks = [worker.peak_memory_bytes()]
        for minutes in (5, 12, 40):
            file = recordings.write(
                tmp_path / f"{minutes}.flac", recordings.encode(recordings.long(minutes))
            )
            assert client.wait(client.upload(file)).state == "completed"
            peaks.append(worker.peak_memory_bytes())
    idle, _, short, long = peaks
    # Each bound is more than twice the measured value.
    assert short - idle < 250e6
    assert long - short < HELD_BYTES / 3
